"""Sending a file of events: the good ones go, the others are named with their line and reason."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from headrace.client import Client
from headrace.errors import HeadraceError, InvalidEvent
from headrace.events import parse_event

_BATCH = 500
_SHOWN = 20
_TRIES = 3
"""For events that Kafka has not acknowledged while it did others."""

_Line = tuple[int, bytes]
"""Its number, from 1 on, and what it holds."""


@dataclass
class Sent:
    """What became of the lines."""

    accepted: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)
    """Of the first ones: `line 7: rating: …`."""

    def refuse(self, line: int, error: InvalidEvent) -> None:
        """Note a line that is not an event."""
        self.refused += 1
        if len(self.reasons) < _SHOWN:
            self.reasons.append(f"line {line}: {error}")


def send_file(
    client: Client, file: BinaryIO, *, path: str, size: int | None, console: Console
) -> Sent:
    """Send the events of a file of JSON lines to this path, in order, showing how far it is.

    `size` is the file's in bytes, when it is known. Raises `HeadraceError` when the server does not
    take them; what it took before stays taken.
    """
    sent = Sent()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("sending", total=size)
        lines = enumerate(file, start=1)
        while batch := list(itertools.islice(lines, _BATCH)):
            try:
                if good := _events(batch, sent):
                    _post(client, path, good, sent)
            except KeyboardInterrupt as exc:
                raise HeadraceError(f"Broken off. {_so_far(sent, batch[0][0])}") from exc
            length = sum(len(line) for _, line in batch)
            progress.update(bar, advance=length, description=f"{sent.accepted:,} events")
    return sent


def report(sent: Sent, console: Console) -> None:
    """Tell what became of the lines."""
    console.print(f"{sent.accepted:,} events accepted, {sent.refused:,} lines refused.")
    for reason in sent.reasons:
        console.print(f"  [red]{escape(reason)}[/]", soft_wrap=True, highlight=False)
    if sent.refused > len(sent.reasons):
        console.print(f"  and {sent.refused - len(sent.reasons):,} more")


def open_source(path: Path) -> BinaryIO:
    """Open a file of events. Raises `HeadraceError` when it cannot be read."""
    try:
        return path.open("rb")
    except OSError as exc:
        raise HeadraceError(f"{path} cannot be read: {exc.strerror}.") from exc


def _events(batch: list[_Line], sent: Sent) -> list[_Line]:
    """Return the lines that the server's own parser takes; note the others."""
    good = []
    for number, line in batch:
        stripped = line.strip()
        if not stripped:
            continue
        try:
            parse_event(stripped, None, received_at=time.time())
        except InvalidEvent as exc:
            sent.refuse(number, exc)
        else:
            good.append((number, stripped))
    return good


def _post(client: Client, path: str, lines: list[_Line], sent: Sent) -> None:
    """Send lines, and those again that Kafka has not acknowledged; note what became of them."""
    for _ in range(_TRIES):
        first_line = lines[0][0]
        try:
            answer = client.post_lines(path, b"\n".join(line for _, line in lines))
        except HeadraceError as exc:
            raise HeadraceError(f"{exc} {_so_far(sent, first_line)}") from exc
        sent.accepted += answer["accepted"]
        outcomes = list(zip(lines, answer["events"], strict=True))
        for (number, _), outcome in outcomes:
            if outcome["status"] == "invalid":
                sent.refuse(number, InvalidEvent(outcome["field"], outcome["reason"]))
        # Each event has an id, so that one that did arrive counts once all the same.
        lines = [line for line, outcome in outcomes if outcome["status"] == "unknown"]
        if not lines:
            return
    raise HeadraceError(
        f"Kafka does not acknowledge {len(lines):,} of the events; is it well? "
        f"{_so_far(sent, lines[0][0])}"
    )


def _so_far(sent: Sent, line: int) -> str:
    return (
        f"{sent.accepted:,} events were accepted, all of those before line {line} among them; send "
        "the file again from that line on."
    )
