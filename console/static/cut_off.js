/**
 * Says that the connection to the console is away, as long as it is; and, on a page that is here anew
 * because it was away for too long, that what was typed or done may not have arrived.
 */
const KEY = "headrace-cut-off-at";
// NiceGUI hides its line, too, as it begins to load a page anew that it no longer knows: the browser says so at once.
const ANEW_WITHIN_MS = 2_000;

const line = document.getElementById("popup");
let forgetting;

function follow() {
  const isAway = line.ariaHidden === "false";
  document.documentElement.classList.toggle("is-cut-off", isAway);
  clearTimeout(forgetting);
  if (!isAway) forgetting = setTimeout(() => sessionStorage.removeItem(KEY), ANEW_WITHIN_MS);
  else if (!sessionStorage.getItem(KEY)) sessionStorage.setItem(KEY, String(Date.now()));
}

function tell(at) {
  const note = document.createElement("div");
  note.className = "toast bad cut-off-note";
  note.setAttribute("role", "alert");
  const words = document.createElement("p");
  const close = document.createElement("button");
  close.type = "button";
  close.className = "button small quiet close";
  close.ariaLabel = "Close this message";
  close.addEventListener("click", () => note.remove());
  note.append(words, close);
  document.body.append(note);
  // Screen readers say what comes into an alert that is there.
  words.textContent =
    `The connection to the console was lost at ${new Date(at).toTimeString().slice(0, 8)}, for so long that this page ` +
    "is here anew. What was typed and not sent is gone; what was done since then may not have arrived: look before " +
    "you do it again.";
}

const before = sessionStorage.getItem(KEY);
sessionStorage.removeItem(KEY);
if (before) tell(Number(before));
addEventListener("beforeunload", () => clearTimeout(forgetting));
new MutationObserver(follow).observe(line, { attributeFilter: ["aria-hidden"] });
