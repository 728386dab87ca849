"""Sending files' rows to Kafka, batch by batch, each acknowledged before it counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.errors import KafkaError

from headrace.errors import HeadraceError, InvalidEvent
from headrace.importing.layout import Layout, Shaper
from headrace.importing.records import RecordMaker
from headrace.importing.refusals import Refusals, Refused
from headrace.importing.sources import Form, Malformed, Row, Source, open_source
from headrace.producer import Outgoing, Producer
from headrace.settings import Settings
from headrace.topics import Topics, ensure_topics

_BATCH_ROWS = 2_000
_BATCH_BYTES = 4 * 2**20
"""A batch ends at either, so that it is small in memory and acknowledged in time."""


@dataclass(frozen=True)
class ImportOptions:
    """What to import and how, as a user says it."""

    files: Sequence[Path]
    kind: str | None = None
    """`click`, `rating`, `purchase` or `item`; None: each row's `type` says it."""
    form: Form = field(default_factory=Form)
    layout: Layout = field(default_factory=Layout)
    from_row: int | None = None
    """Of the first file, to go on with an import that was broken off; None: all is new."""
    ids_by_row: bool = False
    """Whether rows that say the same, and bring no id, are as many events."""
    dry_run: bool = False
    """Check everything and send nothing."""


@dataclass
class Imported:
    """What became of the rows."""

    refusals: Refusals
    accepted: Counter[str] = field(default_factory=Counter)
    """By topic on the broker."""
    file: Path | None = None
    """Which one is being read."""
    next_row: int = 1
    """The row of it to go on with: all before it are acknowledged, or refused."""

    @property
    def count(self) -> int:
        """How many rows were accepted."""
        return sum(self.accepted.values())

    def note(self, batch: Batch) -> None:
        """Count a batch whose records are acknowledged.

        Raises `HeadraceError`, and counts nothing, when what is refused cannot be written.
        """
        self.refusals.add(batch.refused)
        self.accepted.update(record.topic for record in batch.records)
        self.next_row = batch.last_row + 1


@dataclass
class Batch:
    """Rows that follow one another: what is to be sent of them, and what is refused."""

    records: list[Outgoing] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    bytes: int = 0
    last_row: int = 0

    @property
    def is_full(self) -> bool:
        """Whether it is to be sent before more is read."""
        return len(self.records) + len(self.refused) >= _BATCH_ROWS or self.bytes >= _BATCH_BYTES


async def import_files(
    options: ImportOptions,
    settings: Settings,
    imported: Imported,
    *,
    clock: Callable[[], float],
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> None:
    """Import the files in their order; `imported` says at any time how far that is.

    `clock` gives Unix seconds. `progress` is told how many bytes of the files have been read, and
    how many rows were accepted. Raises `HeadraceError` when a file cannot be read, its columns have
    no place, the refused rows cannot be written, or Kafka does not acknowledge: `go_on` says how it
    is gone on with then.
    """
    if not options.dry_run:
        await asyncio.to_thread(ensure_topics, settings)
    producer = Producer(settings)
    try:
        before = 0
        for number, path in enumerate(options.files):
            imported.file = path
            imported.next_row = 1 if number else options.from_row or 1
            with open_source(path, options.form) as source:
                maker, columns = _prepare(source, path, options, settings)
                imported.refusals.begin()
                rows = source.rows(columns)
                with closing(_batches(rows, maker, path, imported.next_row, clock)) as batches:
                    async for batch in _acknowledged(
                        batches, None if options.dry_run else producer
                    ):
                        imported.note(batch)
                        progress(before + source.done(), imported.count)
                before += source.done()
    except (KafkaError, OSError) as exc:
        raise HeadraceError(
            f"Kafka at {settings.kafka} does not acknowledge: {exc!r}. Is it running?"
        ) from exc
    finally:
        await producer.close()


def go_on(imported: Imported, options: ImportOptions) -> str:
    """Return how much has arrived of an import that was broken off, and how to go on with it."""
    if imported.file is None or options.dry_run or not (imported.count or imported.refusals.count):
        return ""
    later = options.files[list(options.files).index(imported.file) :]
    files = " ".join(map(str, later))
    return (
        f" {imported.count:,} rows are acknowledged, all before row {imported.next_row} of "
        f"{imported.file}; go on with the same options and "
        f"`--from-row {imported.next_row} {files}`."
    )


def _prepare(
    source: Source, path: Path, options: ImportOptions, settings: Settings
) -> tuple[RecordMaker, list[str] | None]:
    """Return what makes records of the file's rows, and the columns that it reads."""
    shaper = Shaper(options.layout, options.kind, cells_are_text=source.cells_are_text)
    columns = None
    if source.columns is not None:
        if options.kind is None and not shaper.says_type(source.columns):
            raise HeadraceError(f"{path}: nothing says what its rows are; give --kind.")
        try:
            columns = shaper.check_columns(source.columns)
        except HeadraceError as exc:
            raise HeadraceError(f"{path}: {exc}") from exc
    file = path.name if options.ids_by_row else None
    return RecordMaker(shaper, options.kind, Topics(settings), file=file), columns


def _batches(
    rows: Generator[Row, None, None],
    maker: RecordMaker,
    path: Path,
    from_row: int,
    clock: Callable[[], float],
) -> Generator[Batch, None, None]:
    batch, now = Batch(), clock()
    with closing(rows):
        for number, cells in rows:
            if number < from_row:
                continue
            batch.last_row = number
            try:
                if isinstance(cells, Malformed):
                    raise cells.error
                record = maker.make(cells, number, received_at=now)
            except InvalidEvent as error:
                data = cells.text if isinstance(cells, Malformed) else cells
                batch.refused.append(Refused(str(path), number, error, data))
            else:
                batch.records.append(record)
                batch.bytes += len(record.value or b"")
            if batch.is_full:
                yield batch
                batch, now = Batch(), clock()
    if batch.last_row:
        yield batch


async def _acknowledged(
    batches: Generator[Batch, None, None], producer: Producer | None
) -> AsyncIterator[Batch]:
    """Send the batches and yield each when it is acknowledged; meanwhile the next one is made."""
    batch = await _next(batches)
    while batch is not None:
        sending = asyncio.ensure_future(_send(batch, producer))
        try:
            following = await _next(batches)
        except HeadraceError:
            # The file ends in damage: what has been read of it still goes.
            await sending
            yield batch
            raise
        await sending
        yield batch
        batch = following


async def _send(batch: Batch, producer: Producer | None) -> None:
    if producer is not None and batch.records:
        await producer.send(batch.records)


async def _next(batches: Generator[Batch, None, None]) -> Batch | None:
    """Return the next batch, read in a thread, which has come to rest when this ends."""
    reading = asyncio.ensure_future(asyncio.to_thread(next, batches, None))
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        await reading
        raise
