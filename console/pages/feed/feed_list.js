import { h, nextTick, TransitionGroup } from "vue";

const STARS = [1, 2, 3, 4, 5];
const MARKS = { up: "▲", down: "▼", new: "new" };

/**
 * The cards, and the measure of how fast they answer: from the event of the browser that acted to the
 * frame in which the list that knows it stands in the document.
 */
export default {
  props: { cards: Array, list: String, answered: Array, may: Boolean },
  emits: ["act", "delay"],
  data: () => ({ waiting: {} }),
  created() {
    // Not reactive: nothing is drawn from them.
    this.began = new Map();
    this.shown = new Map();
    this.serial = 0;
  },
  watch: {
    list: "note",
    answered: { handler: "note", deep: true },
  },
  mounted() {
    this.note();
  },
  methods: {
    act(card, kind, rating, event) {
      // A double click is one act.
      if (this.waiting[card.id] !== undefined) return;
      const serial = ++this.serial;
      this.began.set(serial, event.timeStamp || performance.now());
      this.waiting = { ...this.waiting, [card.id]: serial };
      this.$emit("act", { serial, item: card.id, kind, rating });
    },
    async note() {
      await nextTick();
      if (this.list && !this.shown.has(this.list)) {
        this.shown.set(this.list, performance.now());
        if (this.shown.size > 50) this.shown.delete(this.shown.keys().next().value);
      }
      for (const { serial, list } of this.answered) {
        const began = this.began.get(serial);
        if (began === undefined) continue;
        this.began.delete(serial);
        this.waiting = Object.fromEntries(Object.entries(this.waiting).filter(([, each]) => each !== serial));
        const ms = list === null ? null : (this.shown.get(list) ?? performance.now()) - began;
        this.$emit("delay", { serial, ms });
      }
    },
    actions(card) {
      if (!this.may) return null;
      const busy = this.waiting[card.id] !== undefined;
      return h("div", { class: "card-actions", "aria-busy": busy ? "true" : undefined }, [
        h("button", { type: "button", class: "button small", "aria-label": `Open ${card.title}`, onClick: (e) => this.act(card, "click", null, e) }, "Open"),
        h(
          "div",
          { class: "stars", role: "group", "aria-label": card.rated === null ? `Rate ${card.title}` : `Rate ${card.title}; you gave it ${card.rated}` },
          STARS.map((star) =>
            h(
              "button",
              { type: "button", class: card.rated !== null && star <= card.rated ? "star given" : "star", "aria-label": `Rate ${star} of 5: ${card.title}`, title: `Rate ${star} of 5`, onClick: (e) => this.act(card, "rating", star, e) },
              "★",
            ),
          ),
        ),
        h("button", { type: "button", class: "button small", "aria-label": `Buy ${card.title}`, onClick: (e) => this.act(card, "purchase", null, e) }, "Buy"),
      ]);
    },
    why(card) {
      if (!card.because.length) return null;
      return h("ul", { class: "why", "aria-label": "Why" }, card.because.map((each) =>
        h("li", null, [
          h("span", { class: each.for ? "effect good" : "effect bad" }, each.effect),
          ` you ${each.verb} `,
          h("strong", null, each.title),
        ]),
      ));
    },
    card(card) {
      return h("li", { key: card.id, class: ["card", card.move], "data-item": card.id }, [
        h("div", { class: "place" }, [
          h("span", { class: "number" }, String(card.place)),
          card.move ? h("span", { class: `move ${card.move}` }, [
            h("span", { "aria-hidden": "true" }, card.move === "new" ? "new" : `${MARKS[card.move]}${card.moved.split(" ")[1]}`),
            h("span", { class: "unseen" }, card.moved),
          ]) : null,
        ]),
        h("div", { class: "card-body" }, [
          h("h3", null, card.title),
          card.categories.length || card.cold ? h("ul", { class: "chips", "aria-label": "Categories" }, [
            ...card.categories.map((each) => h("li", { class: "chip" }, each)),
            card.cold ? h("li", { class: "chip cold", title: "Came after the training: scored from its features" }, "new item") : null,
          ]) : null,
          this.why(card),
        ]),
        h("div", { class: "card-end" }, [
          card.score ? h("div", { class: "score" }, [
            h("span", { class: "score-number" }, card.score),
            h("progress", { max: 1, value: card.share, "aria-label": "Beside the best of the list" }),
          ]) : null,
          this.actions(card),
        ]),
      ]);
    },
  },
  render() {
    return h(TransitionGroup, { tag: "ol", name: "cards", class: "cards", "aria-label": "Recommendations" }, () =>
      this.cards.map((card) => this.card(card)),
    );
  },
};
