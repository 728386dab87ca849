import { h } from "vue";

export default {
  props: {
    label: String,
    kind: String,
    value: {},
    serial: Number,
    hint: String,
    options: Array,
    least: Number,
    most: Number,
    step: Number,
    suggestions: Array,
    error: String,
  },
  emits: ["change"],
  data() {
    return { held: this.value };
  },
  watch: {
    serial() {
      this.held = this.value;
    },
  },
  methods: {
    take(value) {
      this.held = value;
      this.$emit("change", value);
    },
  },
  render() {
    const key = this.$attrs.id;
    const note = this.error || this.hint;
    const common = {
      id: `${key}-input`,
      "aria-describedby": note ? `${key}-note` : undefined,
      "aria-invalid": this.error ? "true" : undefined,
    };
    const limits = { min: this.least ?? undefined, max: this.most ?? undefined, step: this.step ?? undefined };
    let input;
    if (this.kind === "select") {
      input = h(
        "select",
        { ...common, value: this.held, onChange: (event) => this.take(event.target.value) },
        this.options.map((option) =>
          h("option", { value: option.value, selected: option.value === this.held }, option.label),
        ),
      );
    } else if (this.kind === "checkbox") {
      input = h("input", {
        ...common,
        type: "checkbox",
        checked: Boolean(this.held),
        onChange: (event) => this.take(event.target.checked),
      });
    } else if (this.kind === "textarea") {
      input = h("textarea", { ...common, rows: 4, value: this.held, onInput: (event) => this.take(event.target.value) });
    } else if (this.kind === "range") {
      input = h("input", {
        ...common,
        ...limits,
        type: "range",
        value: this.held,
        onInput: (event) => (this.held = Number(event.target.value)),
        onChange: (event) => this.take(Number(event.target.value)),
      });
    } else {
      input = h("input", {
        ...common,
        type: this.kind === "search" ? "search" : "text",
        inputmode: this.kind === "number" ? "decimal" : undefined,
        list: this.suggestions.length ? `${key}-list` : undefined,
        autocomplete: "off",
        spellcheck: "false",
        value: this.held,
        onInput: (event) => this.take(event.target.value),
      });
    }
    const name = h("label", { for: `${key}-input` }, [
      this.label,
      this.kind === "range" ? h("output", { for: `${key}-input` }, String(this.held)) : null,
    ]);
    const parts = this.kind === "checkbox" ? [input, name] : [name, input];
    if (this.suggestions.length) {
      parts.push(h("datalist", { id: `${key}-list` }, this.suggestions.map((each) => h("option", { value: each }))));
    }
    if (note) parts.push(h("p", { id: `${key}-note`, class: this.error ? "error" : "hint" }, note));
    return h("div", { class: ["field", this.kind, this.error ? "wrong" : ""] }, parts);
  },
};
