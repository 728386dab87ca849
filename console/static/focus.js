/**
 * Keeps the keyboard where it was when what had it is drawn anew or goes away: on what is called the
 * same in that panel, else on what stands at its place in the list, else on the panel. Browsers let
 * it fall back to the top of the page.
 */
const WAIT_MS = 1000;
const ROWS = "li, tr, article";
const CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex]";

let last = null;

// The label of a slider holds its value, too, after its words.
const labelOf = (element) => element.labels?.[0]?.firstChild?.textContent;
const nameOf = (element) => element.getAttribute("aria-label") || labelOf(element) || element.textContent.trim();
const canHave = (element) => element.isConnected && !element.disabled && element.checkVisibility();

function note(element) {
  const panel = element.closest(".panel");
  if (!panel) return null;
  const row = element.closest(ROWS);
  return {
    element,
    panel,
    name: `${element.tagName} ${nameOf(element)}`,
    list: row?.parentElement,
    row: row ? [...row.parentElement.children].indexOf(row) : -1,
    control: row ? [...row.querySelectorAll(CONTROLS)].indexOf(element) : -1,
    lostAt: null,
  };
}

function sameName({ panel, name }) {
  return [...panel.querySelectorAll(CONTROLS)].find((each) => canHave(each) && `${each.tagName} ${nameOf(each)}` === name);
}

function samePlace({ list, row, control }) {
  if (!list?.isConnected || !list.children.length) return null;
  const controls = [...list.children[Math.min(row, list.children.length - 1)].querySelectorAll(CONTROLS)];
  return [controls[control], ...controls].find((each) => each && canHave(each));
}

function give(element) {
  element.focus({ preventScroll: true });
  last = note(element);
}

function follow() {
  if (last === null || !document.hasFocus()) return;
  const { activeElement } = document;
  if (activeElement === last.element && canHave(activeElement)) {
    // It may have moved within its list.
    if (last.list) last = note(activeElement);
    return;
  }
  if (activeElement !== document.body && activeElement !== last.element) {
    if (!activeElement.closest("dialog")) last = null;
    return;
  }
  const found = canHave(last.element) ? last.element : sameName(last) || samePlace(last);
  if (found) {
    give(found);
    return;
  }
  last.lostAt ??= performance.now();
  if (performance.now() - last.lostAt < WAIT_MS) return;
  const { panel } = last;
  last = null;
  if (!panel.isConnected) return;
  panel.tabIndex = -1;
  panel.focus({ preventScroll: true });
}

addEventListener("focusin", ({ target }) => {
  if (!target.closest("dialog")) last = note(target);
});
addEventListener("pointerdown", ({ target }) => {
  // Who clicks beside everything lets go of it.
  if (!target.closest(`${CONTROLS}, label, dialog`)) last = null;
});
new MutationObserver(() => {
  follow();
  if (last && !canHave(last.element)) setTimeout(follow, WAIT_MS);
}).observe(document, { childList: true, subtree: true, attributeFilter: ["disabled", "class"] });
