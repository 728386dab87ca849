"""Dead letters: why, from where, with which bytes; mended, checked as one types, and sent again."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence

import msgspec

from console import formats
from console.errors import is_final
from console.visit import Visit
from console.widgets.html import Tag, box, button, text
from console.widgets.parts import Dialog, Field, Moment
from console.widgets.shared import AGAIN_S, Panel, badge, facts, opened
from headrace_client import Conflict, HeadraceError
from headrace_client.types import DeadLetter, DeadLetterList, ResendRequest

_LOOK_S = 15.0
"""Whatever has come since, the server reads the whole topic for the next answer."""
_SHOWN = 50
_ALL = {"": "every topic"}
_TYPED_S = 0.4
"""Pause after which what was typed is looked at."""
_HEX_WIDTH = 16
_MOST_SHORT = 500
"""Characters of a letter in the list; all of it is in its dialog."""
_MOST_BYTES = 4_096
"""Of bytes that are no text; more say no more to anybody."""


class Letters:
    """The dead letters, a page at a time."""

    def __init__(self, visit: Visit, guard: Callable[[bool], None]) -> None:
        """`guard` is told whether something is typed that would be lost with the page."""
        self._visit = visit
        self._guard = guard
        self._typed: dict[str, str] = {}
        """By letter, what was typed and is not sent: the next *Mend* goes on with it."""
        self._reason = self._topic = ""
        self._cursors: list[str | None] = [None]
        """Of the page that is shown, after those of the pages before it."""
        self._next: str | None = None
        self._panel = Panel(
            visit, "Dead letters", note="Records that are wrong in themselves, newest first."
        )
        with self._panel.tools:
            self._choice = Field("From topic", kind="select", options=_ALL, on_change=self._choose)
            Field("Reason holds", kind="search", on_change=self._filter)
        with self._panel.root, box("pager") as self._pager:
            self._newer = button("Newer", self._turn_back, kind="small", label="Newer dead letters")
            self._place = text("", "muted")
            self._older = button("Older", self._turn, kind="small", label="Older dead letters")
        self._pager.set_visibility(False)
        visit.every(_LOOK_S, self._look)

    def offer_topics(self, names: Sequence[str]) -> None:
        """Offer these topics to choose letters from."""
        self._choice.set_options({**_ALL, **{name: name for name in names}})

    # Choosing

    async def _choose(self, topic: str) -> None:
        self._topic = topic
        await self._begin()

    async def _filter(self, reason: str) -> None:
        self._reason = reason
        await asyncio.sleep(_TYPED_S)
        if reason == self._reason:
            await self._begin()

    async def _begin(self) -> None:
        self._cursors = [None]
        await self._look()

    async def _turn(self) -> None:
        if self._next is not None:
            self._cursors.append(self._next)
            self._next = None
            await self._look()

    async def _turn_back(self) -> None:
        if len(self._cursors) > 1:
            self._cursors.pop()
            await self._look()

    # Reading

    async def _look(self) -> None:
        asked = self._reason, self._topic, self._cursors[-1]
        reason, topic, cursor = asked
        try:
            found = await self._visit.api.dead_letters(
                reason=reason or None, topic=topic or None, limit=_SHOWN, cursor=cursor
            )
        except HeadraceError as error:
            self._panel.tell(self._visit.trouble(error))
            return
        if asked != (self._reason, self._topic, self._cursors[-1]):
            # Others were asked for meanwhile.
            return
        if cursor is not None and not found.dead_letters:
            # They are too old to be kept by now.
            await self._begin()
            return
        self._panel.draw(found, self._draw)
        self._tell_page(found)

    def _tell_page(self, found: DeadLetterList) -> None:
        self._next = found.cursor
        pages = max(1, -(-found.count // _SHOWN))
        self._pager.set_visibility(pages > 1 or len(self._cursors) > 1)
        self._place.set_text(
            f"Page {formats.count(len(self._cursors))} of {formats.count(pages)}, "
            f"{formats.count(found.count)} in all"
        )
        self._newer.attribute("disabled", True if len(self._cursors) == 1 else None)
        self._older.attribute("disabled", True if found.cursor is None else None)

    def _draw(self, found: DeadLetterList) -> None:
        if not found.dead_letters:
            is_chosen = self._reason or self._topic
            text("None is like that." if is_chosen else "There are none.", "none")
            return
        with Tag("ol", "tasks"):
            for letter in found.dead_letters:
                self._draw_row(letter)

    def _draw_row(self, letter: DeadLetter) -> None:
        with Tag("li", "task letter", data_letter=letter.id):
            with box("task-head"):
                with box("head-words"):
                    text(letter.id, "mono")
                    Moment(letter.buried_at)
                    text(f"from {_origin(letter)}", "muted")
                    if letter.resent:
                        badge("sent again", "good")
                with box("task-deeds"):
                    button(
                        "Mend …",
                        lambda: self._mend(letter),
                        kind="small",
                        label=f"Mend dead letter {letter.id}",
                    )
            text(letter.reason, "task-error", tag="p")
            said = _short(letter) or "no bytes"
            name = f"Bytes of {letter.id}"
            Tag("pre", "log bytes", said, role="region", tabindex="0", aria_label=name)

    async def _mend(self, letter: DeadLetter) -> None:
        await Mender(self._visit, letter, self._typed.get(letter.id), self._keep).ask()
        # Beside it: the button takes the next click as soon as the dialog is closed.
        self._visit.run(self._look())

    def _keep(self, letter_id: str, typed: str | None) -> None:
        self._typed.pop(letter_id, None)
        if typed is not None:
            self._typed[letter_id] = typed
        self._guard(bool(self._typed))


class Mender:
    """A dialog in which one letter is mended and sent again."""

    def __init__(
        self,
        visit: Visit,
        letter: DeadLetter,
        typed: str | None,
        keep: Callable[[str, str | None], None],
    ) -> None:
        """`typed`: what was typed before; `keep` is given the letter's id and what is typed now.

        None in place of either: the value is as it was received.
        """
        self._visit = visit
        self._letter = letter
        self._typed = typed
        self._keep = keep
        self._again = letter.resent
        """Whether it was sent again already; whoever sends it then has been warned."""
        self._closed = asyncio.Event()

    async def ask(self) -> None:
        """Show it until it is closed, or the letter is sent."""
        letter = self._letter
        with self._visit.layer, Dialog(f"Dead letter {letter.id}", self._closed.set) as dialog:
            dialog.classes("wide")
            facts(
                [
                    ("from", _origin(letter)),
                    ("reason", letter.reason),
                    ("field", letter.field or "the whole record"),
                    ("key", letter.key or _in_base64(letter.key_base64) or "none"),
                ]
            )
            if letter.value_base64 is not None:
                text("These bytes are no text; what you write replaces them.", "muted", tag="p")
                bytes_ = _hex(letter.value_base64) or "no bytes"
                Tag("pre", "log", bytes_, role="region", tabindex="0", aria_label="Its bytes")
            received = _pretty(letter.value or "")
            self._field = Field(
                "Value", kind="textarea", on_change=self._type,
                value=received if self._typed is None else self._typed,
                hint="Until it is sent, what you type stays here, on this page.",
            )  # fmt: skip
            self._field.classes("tall")
            self._verdict = Tag("p", "verdict", "Looking at it …", role="status")
            self._warning = Tag("div", "trouble-card", role="alert")
            with self._warning:
                text(
                    "It was sent again already. Sent once more, the same event may count twice.",
                    tag="p",
                )
            self._warning.set_visibility(self._again)
            text("What is sent is an event like any other, and cannot be taken back.", "muted")
            with box("actions"):
                self._anew = button("As received", lambda: self._restore(received), kind="quiet")
                self._anew.set_visibility(self._typed is not None)
                button("Cancel", self._closed.set, kind="quiet", autofocus=True)
                self._send = button("Send again", self._do, kind="main")
        self._begin_check()
        try:
            async with opened(self._visit, dialog):
                await self._closed.wait()
        finally:
            self._checking.cancel()

    def _type(self, value: str) -> None:
        self._take(value)
        self._begin_check(_TYPED_S)

    def _restore(self, received: str) -> None:
        self._field.set(received)
        self._take(None)
        self._begin_check()

    def _take(self, typed: str | None) -> None:
        self._typed = typed
        self._keep(self._letter.id, typed)
        self._anew.set_visibility(typed is not None)
        self._checking.cancel()

    def _begin_check(self, after_s: float = 0.0) -> None:
        self._send.attribute("disabled", True)
        self._checking = self._visit.run(self._check(after_s))

    async def _check(self, after_s: float) -> None:
        """Ask the server whether a worker would take it, until it has said so."""
        await asyncio.sleep(after_s)
        while True:
            try:
                would = await self._visit.api.resend(self._letter.id, self._request(dry_run=True))
                break
            except HeadraceError as error:
                if self._warn(error):
                    continue
                self._refuse(self._visit.trouble(error).words)
                if is_final(error):
                    return
            await asyncio.sleep(AGAIN_S)
        if would.refused is not None:
            self._refuse(f"No worker would take it: {would.refused}")
            return
        self._verdict.set_text(f"A worker would take it: it goes to {would.topic}, {would.key}.")
        self._verdict.classes(replace="verdict good")
        self._send.attribute("disabled", None)

    async def _do(self) -> None:
        self._send.attribute("disabled", True)
        try:
            sent = await self._visit.api.resend(self._letter.id, self._request(dry_run=False))
        except HeadraceError as error:
            if self._closed.is_set():
                self._visit.toast(self._visit.failure(error).words, "bad")
            elif self._warn(error):
                self._begin_check()
            else:
                self._refuse(self._visit.failure(error).words)
                self._send.attribute("disabled", None)
            return
        self._keep(self._letter.id, None)
        self._visit.toast(f"Sent again: {sent.token or sent.topic}", "good")
        self._closed.set()

    def _warn(self, error: HeadraceError) -> bool:
        """Warn of what was sent since the letter was listed; return whether that is the error."""
        if self._again or not isinstance(error, Conflict):
            return False
        self._again = True
        self._warning.set_visibility(True)
        return True

    def _refuse(self, why: str) -> None:
        self._verdict.set_text(why)
        self._verdict.classes(replace="verdict bad")

    def _request(self, *, dry_run: bool) -> ResendRequest:
        return ResendRequest(value=self._typed, again=self._again, dry_run=dry_run)


def _origin(letter: DeadLetter) -> str:
    if letter.topic is None:
        return "nobody knows where"
    return f"{letter.topic}/{letter.partition}, offset {letter.offset}"


def _in_base64(key: str | None) -> str:
    return f"{key}, base64 of bytes that are no text" if key else ""


def _pretty(value: str) -> str:
    """Return JSON laid out, and anything else as it is; nothing in it is left out."""
    try:
        return msgspec.json.format(value, indent=2)
    except (msgspec.DecodeError, RecursionError):
        return value


def _short(letter: DeadLetter) -> str:
    if letter.value_base64 is not None:
        return _hex(letter.value_base64, 4 * _HEX_WIDTH)
    if letter.value is None:
        return "no value: it deletes an item"
    cut = letter.value[:_MOST_SHORT]
    return cut if cut == letter.value else f"{cut}…"


def _hex(value: str, most: int = _MOST_BYTES) -> str:
    raw = base64.b64decode(value)
    return "\n".join((*_hex_lines(raw[:most]), *(["…"] if len(raw) > most else [])))


def _hex_lines(raw: bytes) -> Sequence[str]:
    lines = []
    for start in range(0, len(raw), _HEX_WIDTH):
        part = raw[start : start + _HEX_WIDTH]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{3 * _HEX_WIDTH - 1}}  {shown}")
    return lines
