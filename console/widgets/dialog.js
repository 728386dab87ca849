import { h } from "vue";

export default {
  props: { title: String, open: Boolean },
  emits: ["close"],
  mounted() {
    this.follow();
  },
  updated() {
    this.follow();
  },
  methods: {
    follow() {
      if (this.open && !this.$el.open) this.$el.showModal();
      if (!this.open && this.$el.open) this.$el.close();
    },
  },
  render() {
    const key = `${this.$attrs.id}-title`;
    return h("dialog", { class: "dialog", "aria-labelledby": key, onClose: () => this.open && this.$emit("close") }, [
      h("h2", { id: key }, this.title),
      this.$slots.default?.(),
    ]);
  },
};
