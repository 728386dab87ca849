"""Dead letters on a terminal: chosen, listed, shown; whatever bytes they hold."""

from __future__ import annotations

import base64
import json
import logging
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from headrace.commands.durations import ago
from headrace.commands.output import output
from headrace.commands.printable import printable
from headrace.errors import HeadraceError
from headrace.letters import Found, Letter, check_id, find_letters, letters
from headrace.settings import Settings
from headrace.topics import Topics

_REASON_SHOWN = 120
_HEX_WIDTH = 16


@dataclass(frozen=True)
class Selection:
    """Which letters are meant."""

    settings: Settings
    ids: tuple[str, ...] = ()
    """None: all that the rest chooses."""
    reason: str | None = None
    """Text that the reason holds, in whatever case."""
    topic: str | None = None
    """With or without the prefix."""
    since_s: float | None = None
    everything: bool = True
    """Whether no id means all."""

    def find(self, limit: int | None = None) -> Found:
        """Return the letters.

        Raises `HeadraceError` for an id that no letter has, or is none, and for a topic that there
        is not and that no letter came from.
        """
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        missing = set(map(check_id, self.ids))
        topics, now = Topics(self.settings), time.time()
        origins: set[str] = set()

        def wanted(letter: Letter) -> bool:
            origins.add(topics.plain(letter.topic))
            if self.ids:
                missing.discard(letter.id)
                return letter.id in self.ids
            return self._chosen(letter, topics, now)

        with closing(letters(self.settings)) as read:
            found = find_letters(read, wanted, limit)
        if missing:
            raise HeadraceError(f"There is no dead letter {sorted(missing)[0]}.")
        if self.topic is not None and topics.plain(self.topic) not in {*topics.all, *origins}:
            others = sorted(origins.difference(topics.all, [""]))
            raise HeadraceError(
                f"--topic {self.topic!r} is not a topic, and no dead letter came from it; there "
                f"are {', '.join((*topics.all, *others))}."
            )
        return found

    def _chosen(self, letter: Letter, topics: Topics, now: float) -> bool:
        return (
            (self.reason is None or self.reason.lower() in letter.reason.lower())
            and (self.topic is None or topics.plain(letter.topic) == topics.plain(self.topic))
            and (self.since_s is None or letter.buried_at >= now - self.since_s)
        )


def list_letters(selection: Selection, limit: int, as_json: bool) -> None:
    """List letters, the newest first."""
    found = selection.find(limit)
    console = output()
    if as_json:
        _print_json([_content(letter, found) for letter in found.letters], console)
        return
    if not found.letters:
        console.print("There are no such dead letters.")
        return
    topics, now = Topics(selection.settings), time.time()
    table = Table("id", "age", "from", "", "reason", box=None)
    for letter in found.letters:
        table.add_row(
            letter.id,
            ago(letter.buried_at, now),
            printable(_origin(letter, topics)),
            "[green]sent again[/]" if letter.id in found.resent else "",
            printable(letter.reason[:_REASON_SHOWN]),
        )
    console.print(table)
    if found.count > len(found.letters):
        console.print(f"and {found.count - len(found.letters):,} older ones; --limit shows more")


def show_letter(selection: Selection, as_json: bool) -> None:
    """Show all of one letter."""
    found = selection.find()
    [letter] = found.letters
    console = output()
    if as_json:
        _print_json(_content(letter, found), console)
        return
    topics = Topics(selection.settings)
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    buried = datetime.fromtimestamp(letter.buried_at).astimezone()
    for name, text in (
        ("id", letter.id),
        ("buried", f"{buried:%Y-%m-%d %H:%M:%S %z}"),
        ("from", _origin(letter, topics)),
        ("field", letter.field),
        ("reason", letter.reason),
        ("sent again", "yes" if letter.id in found.resent else "no"),
        ("key", "none" if letter.key is None else _line(letter.key)),
        ("value", "none" if letter.value is None else f"{len(letter.value):,} bytes"),
    ):
        table.add_row(name, printable(text))
    console.print(table, highlight=False)
    for line in _pretty(letter.value or b""):
        console.print(printable(line), soft_wrap=True, highlight=False)


def _origin(letter: Letter, topics: Topics) -> str:
    if not letter.topic:
        return "unknown"
    return f"{topics.plain(letter.topic)}/{letter.partition}/{letter.offset}"


def _pretty(value: bytes) -> list[str]:
    """Return lines that show a value: as JSON, as text, or else its bytes."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return _hex(value)
    with suppress(msgspec.DecodeError, RecursionError):
        text = msgspec.json.format(value, indent=2).decode()
    return text.split("\n")


def _line(raw: bytes) -> str:
    """Return bytes in one line."""
    return raw.decode(errors="backslashreplace")


def _hex(value: bytes) -> list[str]:
    lines = []
    for start in range(0, len(value), _HEX_WIDTH):
        part = value[start : start + _HEX_WIDTH]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{3 * _HEX_WIDTH - 1}}  {text}")
    return lines


def _content(letter: Letter, found: Found) -> dict[str, Any]:
    return {
        "id": letter.id,
        "buried_at": letter.buried_at,
        "topic": letter.topic or None,
        "partition": letter.partition,
        "offset": letter.offset,
        "field": letter.field,
        "reason": letter.reason,
        "resent": letter.id in found.resent,
        **_bytes("key", letter.key),
        **_bytes("value", letter.value),
    }


def _bytes(name: str, raw: bytes | None) -> dict[str, str | None]:
    """Return bytes as a member: text, or in base64 what is none."""
    try:
        return {name: None if raw is None else raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw or b"").decode()}


def _print_json(content: object, console: Console) -> None:
    # Beyond ASCII all is escaped, and of ASCII JSON leaves one control character as it is.
    text = json.dumps(content, indent=2).replace("\x7f", "\\u007f")
    console.out(text, highlight=False)
