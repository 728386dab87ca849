import { h } from "vue";
import { echarts } from "nicegui-echart";

const SERIES = ["--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5", "--chart-6"];

// With a point above and below, as tall as a line of text: a legend with pages is cut to its symbols' height.
const BAR = "path://M0 0L0 0ZM0 5H12V9H0ZM0 14L0 14Z";

/** A colour of console.css as it is on this page, light or dark: a canvas knows no variables. */
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** What of a series is not drawn but told, in words, in the tips of some steps: `[step, words]` each. */
function inTips(told, at, text) {
  return {
    data: told.map(([step]) => [at[step] * 1000, 0]),
    symbol: "none",
    lineStyle: { opacity: 0 },
    itemStyle: { color: text },
    tooltip: { valueFormatter: (_, which) => told[which][1] },
  };
}

/** The options with the page's colours; the unit of numbers stands over their axis, and in tips. */
function dressed(options, unit) {
  const text = colour("--muted");
  const line = colour("--line");
  const plain = (value) => Number(value).toLocaleString([], { maximumSignificantDigits: 4 });
  const number = (value) =>
    value === null || value === undefined || value === "-" ? "no data" : `${plain(value)}${unit ? " " + unit : ""}`;
  const axis = (given, isValue) => ({
    axisLine: { lineStyle: { color: line } },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: line } },
    nameTextStyle: { color: text },
    ...given,
    axisLabel: { color: text, hideOverlap: true, ...(isValue ? { formatter: plain } : {}), ...given?.axisLabel },
  });
  const { at, still, shown, ...rest } = options;
  const series = (options.series ?? []).map(({ told, ...each }) => ({
    ...each,
    // Seconds once for all series, and a value a step in each.
    data: at ? each.data.map((value, step) => [at[step] * 1000, value]) : each.data,
    ...(told ? inTips(told, at, text) : {}),
    markLine: each.markLine
      ? { ...each.markLine, lineStyle: { color: text, type: "dashed" }, label: { color: text, ...each.markLine.label } }
      : undefined,
  }));
  return {
    color: SERIES.map(colour),
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: text },
    animation: !matchMedia("(prefers-reduced-motion: reduce)").matches && !still,
    animationDuration: 200,
    // An axis' own name would be cut where it is wider than the numbers.
    title: unit && { text: unit, left: 12, top: 28, textStyle: { color: text, fontSize: 12, fontWeight: "normal" } },
    grid: { left: 16, right: 16, top: unit ? 54 : 32, bottom: 8, containLabel: true },
    ...rest,
    legend: options.legend && {
      textStyle: { color: text },
      left: 0,
      top: 0,
      icon: BAR,
      itemWidth: 12,
      itemHeight: 14,
      type: "scroll",
      pageIconColor: text,
      pageIconInactiveColor: line,
      pageTextStyle: { color: text },
      formatter: (name) => shown?.[name] ?? name,
      ...options.legend,
    },
    // Drawn on the canvas: names come from data, and are never markup.
    tooltip: {
      renderMode: "richText",
      confine: true,
      backgroundColor: colour("--surface"),
      borderColor: line,
      textStyle: { color: colour("--text"), fontSize: 12 },
      valueFormatter: number,
      ...options.tooltip,
    },
    xAxis: options.xAxis ? axis(options.xAxis, options.xAxis.type === "value") : undefined,
    yAxis: options.yAxis ? axis(options.yAxis, options.yAxis.type !== "category") : undefined,
    series,
  };
}

export default {
  props: { label: String, options: Object, unit: String },
  emits: ["point"],
  mounted() {
    this.chart = echarts.init(this.$el, null, { renderer: "canvas" });
    this.chart.on("click", (event) => this.$emit("point", { name: event.name, data: event.data, index: event.dataIndex, series: event.seriesName }));
    this.sizes = new ResizeObserver(() => this.chart.resize());
    this.sizes.observe(this.$el);
    this.theme = new MutationObserver(() => this.draw());
    this.theme.observe(document.body, { attributes: true, attributeFilter: ["class"] });
    this.draw();
  },
  beforeUnmount() {
    this.sizes.disconnect();
    this.theme.disconnect();
    this.chart.dispose();
  },
  watch: {
    options() {
      this.draw();
    },
  },
  methods: {
    draw() {
      // What the reader has chosen in the legend, and the tip that is open, stay.
      this.chart.setOption(dressed(this.options, this.unit), { replaceMerge: ["series"] });
    },
  },
  render() {
    return h("div", { class: "chart", role: "img", "aria-label": this.label });
  },
};
