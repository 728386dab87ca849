/**
 * Keeps the query of the page's address in step with what was chosen, as steps of the history where
 * wanted, and tells when somebody goes back or forth among them.
 */
export default {
  props: { query: String, steps: Number, unsaved: Boolean },
  emits: ["gone"],
  computed: {
    place() {
      return { query: this.query, steps: this.steps };
    },
  },
  watch: {
    place(now, before) {
      const address = location.pathname + (now.query && `?${now.query}`);
      if (now.steps > before.steps) history.pushState(null, "", address);
      else history.replaceState(null, "", address);
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
    tell() {
      this.$emit("gone", location.search.slice(1));
    },
    ask(event) {
      if (this.unsaved) event.preventDefault();
    },
  },
  render: () => null,
};
