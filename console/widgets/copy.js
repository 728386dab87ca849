import { h } from "vue";

export default {
  props: { text: String, name: String },
  data: () => ({ said: "" }),
  methods: {
    async copy() {
      try {
        await navigator.clipboard.writeText(this.text);
        this.said = "Copied";
      } catch {
        // Without https browsers offer no clipboard: select the text by hand.
        this.said = "Not allowed";
      }
      setTimeout(() => (this.said = ""), 1500);
    },
  },
  render() {
    return h("div", { class: "copy" }, [
      h(
        "button",
        { type: "button", class: "button quiet small", "aria-label": `Copy ${this.name}`, onClick: this.copy },
        this.said || "Copy",
      ),
      // The button's name hides what it says.
      h("span", { class: "unseen", role: "status" }, this.said),
    ]);
  },
};
