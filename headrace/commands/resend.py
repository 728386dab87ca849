"""The command that sends dead letters again: which, what is changed, and what became of each."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka.errors import KafkaError
from rich.table import Table

from headrace.commands.editor import edit
from headrace.commands.import_events import pairs
from headrace.commands.letters_table import Selection
from headrace.commands.output import output
from headrace.commands.printable import printable
from headrace.erasure_log import read_erasures
from headrace.errors import HeadraceError
from headrace.letters import Letter
from headrace.producer import Outgoing, Producer
from headrace.resending import Mending, editable, prepare, resend
from headrace.settings import Settings
from headrace.topics import Topics


@dataclass(frozen=True)
class Fix:
    """What is to be changed, as a user says it."""

    fields: Sequence[str]
    dropped: Sequence[str]
    value: str | None
    """A file; `-`: standard input."""
    edit: bool


def resend_letters(selection: Selection, fix: Fix, *, again: bool, dry_run: bool) -> bool:
    """Send letters again, show what became of each, and return whether none was refused.

    `again`: those too that were sent again already. Raises `HeadraceError` when it is not clear
    which letters are meant, or Kafka is away.
    """
    _check(selection, fix)
    fields = pairs("--set", fix.fields)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    found = selection.find()
    topics, now = Topics(selection.settings), time.time()
    prepared: list[tuple[Letter, Outgoing]] = []
    refused: list[tuple[Letter, str]] = []
    mending = _mending(fix, fields, found.letters)
    # An editor may have been open for long.
    erasures = read_erasures(selection.settings)
    # In the order in which they were buried: of two events of a user the older one comes first.
    for letter in reversed(found.letters):
        if letter.id in found.resent and not again:
            if selection.ids:
                refused.append((letter, "it was sent again already; --again sends it once more"))
            continue
        try:
            prepared.append((letter, prepare(letter, mending, topics, erasures, now=now)))
        except HeadraceError as exc:
            refused.append((letter, str(exc)))
    _report(prepared if dry_run else _sent(prepared, selection), refused, topics, dry_run)
    return not refused


def _check(selection: Selection, fix: Fix) -> None:
    if not selection.ids and not selection.everything:
        raise HeadraceError("Say which dead letters: their ids, or --all.")
    if selection.ids and (selection.reason or selection.topic or selection.since_s is not None):
        raise HeadraceError("Give ids, or --all with --reason, --topic or --since; not both.")
    if (fix.edit or fix.value is not None) and len(selection.ids) != 1:
        raise HeadraceError("--edit and --value are for one letter; give its id alone.")
    if fix.edit and fix.value is not None:
        raise HeadraceError("Give --edit or --value, not both.")


def _mending(fix: Fix, fields: Mapping[str, str], letters: Sequence[Letter]) -> Mending:
    value = None
    if fix.value == "-":
        value = sys.stdin.buffer.read()
    elif fix.value is not None:
        try:
            value = Path(fix.value).read_bytes()
        except OSError as exc:
            raise HeadraceError(f"{fix.value} cannot be read: {exc.strerror}.") from exc
    elif fix.edit:
        value = _edited(letters[0])
    return Mending(fields, tuple(fix.dropped), value)


def _edited(letter: Letter) -> bytes:
    text = edit(editable(letter), os.environ, suffix=".json")
    if text is None:
        raise HeadraceError("Nothing was changed, so nothing is sent.")
    return text.strip().encode()


def _sent(
    prepared: list[tuple[Letter, Outgoing]], selection: Selection
) -> list[tuple[Letter, Outgoing]]:
    try:
        asyncio.run(_send(prepared, selection.settings))
    except (KafkaError, OSError) as exc:
        raise HeadraceError(
            f"Kafka at {selection.settings.kafka} does not acknowledge: {exc!r}; "
            "`headrace dead-letters list` shows which were sent."
        ) from exc
    return prepared


async def _send(prepared: list[tuple[Letter, Outgoing]], settings: Settings) -> None:
    producer = Producer(settings)
    try:
        await resend(prepared, settings, producer)
    finally:
        await producer.close()


def _report(
    sent: Sequence[tuple[Letter, Outgoing]],
    refused: Sequence[tuple[Letter, str]],
    topics: Topics,
    dry_run: bool,
) -> None:
    console = output()
    table = Table("id", "", box=None)
    for letter, record in sent:
        said = "would go to" if dry_run else "sent to"
        table.add_row(letter.id, f"[green]{said}[/] {printable(topics.plain(record.topic))}")
    for letter, reason in refused:
        table.add_row(letter.id, f"[red]refused:[/] {printable(reason)}")
    if table.row_count:
        console.print(table, highlight=False)
    would = "would be " if dry_run else ""
    console.print(f"{len(sent):,} {would}sent again, {len(refused):,} refused.", highlight=False)
