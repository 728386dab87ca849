"""What every page uses: panels that say what is broken, questions asked once, figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from console import formats
from console.errors import Trouble, is_final
from console.visit import Visit
from console.widgets.html import Tag, box, button, text
from console.widgets.parts import Dialog, Moment
from console.widgets.troubles import trouble_card
from headrace_client import HeadraceError

_T = TypeVar("_T")
AGAIN_S = 2.0
"""Pause after which a call that failed is made again."""
_LOADING = "Loading …"


class Panel:
    """A part of a page with a heading. What breaks in it is told in it, and the rest goes on."""

    def __init__(self, visit: Visit, title: str, *, note: str = "", classes: str = "") -> None:
        self._visit = visit
        self._shown: object = None
        self._told: Trouble | None = None
        with Tag("section", f"panel {classes}".strip(), aria_label=title) as self.root:
            with box("panel-head"):
                self._title = text(title, tag="h2")
                self.tools = box("tools")
            if note:
                text(note, "muted note", tag="p")
            self._trouble = box("trouble")
            self._trouble.set_visibility(False)
            self.body = box("panel-body")
        self._loading: asyncio.Task[None] | None = None
        self.reset()

    def rename(self, title: str) -> None:
        """Give it another heading."""
        self._title.set_text(title)
        self.root.attribute("aria-label", title)

    def reset(self) -> None:
        """Forget what was drawn, and what is being loaded: this is no longer about that."""
        if self._loading is not None:
            self._loading.cancel()
        self._shown = None
        self.tell(None)
        self.body.clear()
        with self.body:
            text(_LOADING, "none", tag="p")

    def load(
        self, ask: Callable[[], Awaitable[_T]], draw: Callable[[_T], None], *, always: bool = False
    ) -> None:
        """Show an answer as `show` does, and ask until there is one.

        What was to be loaded before is given up: it is no longer wanted.
        """
        if self._loading is not None:
            self._loading.cancel()
        self._loading = self._visit.run(self._load(ask, draw, always))

    async def _load(
        self, ask: Callable[[], Awaitable[_T]], draw: Callable[[_T], None], always: bool
    ) -> None:
        while True:
            try:
                self.draw(await ask(), draw, always)
            except Exception as error:  # noqa: BLE001 - it is logged, and told in the panel
                self.tell(self._visit.trouble(error))
                if is_final(error):
                    # Nothing is being loaded any more.
                    if self._shown is None:
                        self.body.clear()
                    return
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def show(
        self, ask: Callable[[], Awaitable[_T]], draw: Callable[[_T], None], *, always: bool = False
    ) -> _T | None:
        """Ask the server, and draw the answer into the panel as `draw` does.

        What was drawn stays when the server does not answer, with what is wrong above it.
        """
        try:
            answer = await ask()
        except HeadraceError as error:
            self.tell(self._visit.trouble(error))
            return None
        self.draw(answer, draw, always)
        return answer

    def draw(self, answer: _T, draw: Callable[[_T], None], always: bool = False) -> None:
        """Draw an answer if it is another one than before.

        `always`: draw it even if it is the same.
        """
        self.tell(None)
        if always or answer != self._shown:
            # What cannot be drawn is to be drawn again, though it is the same.
            self._shown = None
            self.body.clear()
            with self.body:
                draw(answer)
            self._shown = answer

    def tell(self, trouble: Trouble | None) -> None:
        """Say what is broken and what to do, or that nothing is any more."""
        if trouble == self._told:
            return
        self._told = trouble
        self._trouble.clear()
        self._trouble.set_visibility(trouble is not None)
        if trouble is not None:
            with self._trouble:
                trouble_card(trouble)


def no_data(what: str) -> None:
    """Say that there is nothing to show yet, and what would bring it."""
    text(_no_data(what), "none", tag="p")


class Nothing:
    """What stands in place of data: that they are asked for, then that there are none yet."""

    def __init__(self, what: str) -> None:
        """`what`: what would bring some."""
        self._words = _no_data(what)
        self._line = text(_LOADING, "none", tag="p")

    def show(self, is_so: bool) -> None:
        """Say what an answer has told: that there are none, or nothing."""
        self._line.set_text(self._words)
        self._line.set_visibility(is_so)


def _no_data(what: str) -> str:
    return f"No data yet. {what}".strip()


class Figure:
    """A number with its unit, its name and the time that it is from, which change in place."""

    def __init__(self, name: str, note: str = "") -> None:
        with box("figure"):
            text(name, "name", tag="p")
            self._value = text(_LOADING, "value none", tag="p")
            with Tag("p", "from"):
                if note:
                    text(note)
                self._at = Moment(None)
                self._at.set_visibility(False)

    def show(self, value: str, at: float | None) -> None:
        """Show another number. `at`: the time that it is from, in Unix seconds."""
        is_none = value in (formats.NO_DATA, formats.NONE_LATELY)
        self._value.set_text(value).classes(replace="value none" if is_none else "value")
        self._at.set(at)
        self._at.set_visibility(at is not None)


def badge(words: str, kind: str = "") -> Tag:
    """Show a word that says in what state something is. `kind`: good, warn, bad, live."""
    return text(words, f"badge {kind}".strip())


async def confirmed(
    visit: Visit, title: str, consequence: str, verb: str, *, danger: bool = False, undo: str = ""
) -> bool:
    """Ask once before something is changed: what will happen, and how it is undone.

    Returns whether it is to be done: not while another question is open. `verb`: what the button
    says.
    """
    if visit.is_asked:
        return False
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def give(yes: bool) -> None:
        if not answer.done():
            answer.set_result(yes)

    with visit.layer, Dialog(title, lambda: give(False)) as dialog:
        text(consequence, tag="p")
        text(undo or "This cannot be undone.", "muted", tag="p")
        with box("actions"):
            button("Cancel", lambda: give(False), kind="quiet", autofocus=True)
            button(verb, lambda: give(True), kind="danger" if danger else "main")
    visit.is_asked = True
    try:
        async with opened(visit, dialog):
            return await answer
    finally:
        visit.is_asked = False


@asynccontextmanager
async def opened(visit: Visit, dialog: Dialog) -> AsyncIterator[None]:
    """Show a dialog until the block ends, which it does at once when the page is closed."""
    asking = asyncio.current_task()
    assert asking is not None  # noqa: S101
    keep = visit.at_end(asking.cancel)
    dialog.open()
    try:
        yield
    finally:
        keep()
        if not dialog.is_deleted:
            dialog.close()
            visit.run(_delete_soon(dialog))


async def _delete_soon(dialog: Dialog) -> None:
    """Delete a dialog that was closed: the browser needs the element for closing it."""
    await asyncio.sleep(0.1)
    if not dialog.is_deleted:
        dialog.delete()


async def attempt(
    visit: Visit, work: Awaitable[_T], done: Callable[[_T], str] | None = None
) -> _T | None:
    """Do something that changes the system, and say how it went. Returns None if it failed.

    `done`: what is said of a result; without it, none is.
    """
    try:
        result = await work
    except HeadraceError as error:
        visit.toast(visit.failure(error).words, "bad")
        return None
    if done is not None:
        visit.toast(done(result), "good")
    return result


def facts(rows: list[tuple[str, Any]]) -> None:
    """Show names with their values, one a line; a value may be a function that draws it."""
    with Tag("dl", "facts"):
        for name, value in rows:
            text(name, tag="dt")
            with Tag("dd"):
                if callable(value):
                    value()
                else:
                    text(str(value))
