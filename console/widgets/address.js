/**
 * Keeps the query of the page's address in step with what was chosen, as steps of the history where
 * wanted, and tells when somebody goes back or forth among them.
 */
export default {
  props: { query: String, steps: Number, unsaved: Boolean, stays: Boolean },
  emits: ["gone"],
  computed: {
    place() {
      return { query: this.query, steps: this.steps };
    },
  },
  watch: {
    place(now, before) {
      if (now.steps > before.steps) history.pushState(null, "", this.address());
      else history.replaceState(null, "", this.address());
    },
  },
  mounted() {
    window.addEventListener("popstate", this.tell);
    window.addEventListener("beforeunload", this.ask);
  },
  unmounted() {
    window.removeEventListener("popstate", this.tell);
    window.removeEventListener("beforeunload", this.ask);
  },
  methods: {
    address() {
      return location.pathname + (this.query && `?${this.query}`);
    },
    tell() {
      if (!this.stays) this.$emit("gone", location.search.slice(1));
      // A link within the page is a step of the history, too.
      else if (location.search.slice(1) !== this.query) history.replaceState(null, "", this.address());
    },
    ask(event) {
      if (this.unsaved) event.preventDefault();
    },
  },
  render: () => null,
};
