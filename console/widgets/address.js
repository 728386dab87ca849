export default {
  props: { query: Object },
  watch: {
    query() {
      const url = new URL(location.href);
      url.search = new URLSearchParams(this.query).toString();
      // In place of the one before: Back leaves the page, whatever was chosen on it.
      history.replaceState(history.state, "", url);
    },
  },
  render() {
    return null;
  },
};
