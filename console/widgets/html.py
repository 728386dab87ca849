"""Plain HTML elements. Text is always text: the browser never reads markup from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from nicegui.element import Element


class Tag(Element):
    """Any HTML element, with text if wanted."""

    def __init__(self, tag: str, classes: str = "", text: str = "", **attributes: Any) -> None:
        """`attributes`: `aria_label="…"` is the attribute `aria-label`; None leaves it out."""
        super().__init__(tag)
        self._text = text
        if classes:
            self.classes(classes)
        for name, value in attributes.items():
            self.attribute(name, value)

    def attribute(self, name: str, value: Any) -> Tag:
        """Set an attribute, or take it away with None."""
        # NiceGUI evaluates what begins with a colon, and Vue would set markup by these.
        name = name.rstrip("_").replace("_", "-")
        assert name[0] != ":" and name.lower() not in ("innerhtml", "outerhtml", "srcdoc")  # noqa: S101, PT018
        self._props.set_optional(name, value)
        return self

    def set_text(self, text: str) -> Tag:
        """Change the text."""
        if text != self._text:
            self._text = text
            self.update()
        return self

    @property
    def text(self) -> str:
        """The text."""
        return self._text or ""

    @property
    def is_disabled(self) -> bool:
        """Whether it is to do nothing; the browser learns that a moment later."""
        return bool(self._props.get("disabled"))


def box(classes: str = "", **attributes: Any) -> Tag:
    """Return a `div`."""
    return Tag("div", classes, **attributes)


def text(words: str, classes: str = "", tag: str = "span") -> Tag:
    """Return words, by default within a line."""
    return Tag(tag, classes, words)


def button(
    words: str,
    on_click: Callable[[], Any],
    *,
    kind: str = "",
    label: str | None = None,
    **attributes: Any,
) -> Tag:
    """Return a button. `kind`: `main`, `danger`, `quiet`; `label`: its name for screen readers.

    Of clicks while it is disabled, or does what one before has asked of it, nothing comes.
    """
    made = Tag("button", f"button {kind}".strip(), words, type="button", aria_label=label)
    for name, value in attributes.items():
        made.attribute(name, value)
    do = one_at_a_time(on_click)
    made.on("click", lambda: None if made.is_disabled else do(), [])
    return made


def one_at_a_time(do: Callable[[], Any]) -> Callable[[], Any]:
    """Return what does the same, and nothing while an earlier call of it goes on.

    A double click is two events on their way before the browser can be told of the first one.
    """
    is_busy = False

    async def finish(work: Coroutine[Any, Any, Any]) -> None:
        nonlocal is_busy
        try:
            await work
        finally:
            is_busy = False

    def start() -> Any:
        nonlocal is_busy
        if is_busy:
            return None
        work = do()
        if not asyncio.iscoroutine(work):
            return None
        is_busy = True
        return finish(work)

    return start


def details(summary: str, name: str, unfolded: set[str], classes: str = "") -> Tag:
    """Return what a summary unfolds. `unfolded` names those that are, for when it is drawn anew."""
    made = Tag("details", classes, open="" if name in unfolded else None)
    with made:
        # A key does it, too, as a click.
        text(summary, tag="summary").on(
            "click", lambda: unfolded.symmetric_difference_update({name}), []
        )
    return made


def link(words: str, to: str, classes: str = "", **attributes: Any) -> Tag:
    """Return a link within the console."""
    return Tag("a", classes, words, href=to, **attributes)
