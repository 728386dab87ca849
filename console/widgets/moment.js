import { h } from "vue";

const LONG_AGO_S = 60 * 86400;
const STEPS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** How long ago; of what is to come by this browser's clock, in how long. */
function ago(seconds) {
  const apart = Math.abs(seconds);
  if (apart < 5) return "just now";
  const [name, size] = STEPS.find((step) => apart >= step[1]);
  const words = `${Math.floor(apart / size)} ${name}`;
  return seconds < 0 ? `in ${words}` : `${words} ago`;
}

export default {
  props: { at: Number, ago: Boolean },
  data: () => ({ now: Date.now() / 1000 }),
  mounted() {
    this.timer = setInterval(() => (this.now = Date.now() / 1000), 5000);
  },
  watch: {
    at() {
      // A time that has just come is not ahead of a clock that was read before it.
      this.now = Date.now() / 1000;
    },
  },
  beforeUnmount() {
    clearInterval(this.timer);
  },
  render() {
    if (this.at === null || this.at === undefined) return h("span", { class: "none" }, "no data yet");
    const date = new Date(this.at * 1000);
    // Further from 1970 than a date can be.
    if (isNaN(date)) return h("span", { class: "none" }, `${this.at} s since 1970, which is no time`);
    const today = date.toDateString() === new Date().toDateString();
    const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
    const day = date.toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" });
    const full = today ? clock : `${day}, ${clock}`;
    const since = this.now - this.at;
    const words = this.ago && Math.abs(since) < LONG_AGO_S ? `${full} · ${ago(since)}` : full;
    return h("time", { datetime: date.toISOString(), title: date.toISOString() }, words);
  },
};
