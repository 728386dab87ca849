"""The replay itself: a batch is applied while the next is read, brought into order and parsed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import ExitStack, aclosing, closing
from dataclasses import dataclass

import msgspec

from headrace.cancellation import to_its_end
from headrace.erasures import Erasures
from headrace.errors import InvalidEvent
from headrace.events import parse_event
from headrace.replaying.order import Piece, Row, in_order
from headrace.replaying.shadow import Counts, ReplayRecord
from headrace.replaying.targets import Target
from headrace.replaying.window import read_partition
from headrace.sessions import LoggedEvent
from headrace.settings import Settings
from headrace.topics import Place, Topics

BATCH = 2_000
"""Events applied in one pipeline."""


@dataclass(frozen=True)
class Limits:
    """What counts no more, and how fast the rest is applied."""

    erasures: Erasures
    oldest_s: float = 0.0
    """Unix seconds: a record from before has expired."""
    rate: float = 0.0
    """Records a second at the most; 0: as fast as it goes."""


@dataclass(frozen=True)
class Batch:
    """Records of one partition number that are ready to be applied."""

    number: int
    piece: Piece
    events: list[LoggedEvent]
    counts: Counter[tuple[str, str]]
    """Of the records that are not applied, by topic and reason."""


async def run_replay(
    settings: Settings,
    record: ReplayRecord,
    target: Target,
    limits: Limits,
    progress: Callable[[ReplayRecord], None] = lambda _: None,
) -> ReplayRecord:
    """Replay from where the record stands to the end of its window; return the record then.

    Partition numbers come one after the other. `progress` is told the record after each batch.
    Raises `HeadraceError` when Kafka cannot be read, `redis.exceptions.RedisError` for Redis.
    """
    pace = _Pace(limits.rate)
    counts = Counter(_flat(record.counts))
    async with aclosing(_ahead(_batches(settings, record, limits))) as batches:
        async for batch in batches:
            # Were it cancelled in between, what was applied would count as known hereafter, and
            # what was stored would not be told.
            record = await to_its_end(_apply_and_store(batch, target, record, counts, progress))
            await pace.keep(len(batch.piece.rows))
    record = msgspec.structs.replace(record, is_complete=True)
    await target.store(record)
    return record


async def _apply_and_store(
    batch: Batch,
    target: Target,
    record: ReplayRecord,
    counts: Counter[tuple[str, str]],
    progress: Callable[[ReplayRecord], None],
) -> ReplayRecord:
    """Apply a batch, count it, store the record after it, and tell of it."""
    if batch.events:
        outcomes = await target.apply(batch.events)
        counts.update(
            (logged.topic, outcome) for logged, outcome in zip(batch.events, outcomes, strict=True)
        )
    counts.update(batch.counts)
    record = _after(record, batch, counts)
    await target.store(record)
    progress(record)
    return record


def _after(record: ReplayRecord, batch: Batch, counts: Counter[tuple[str, str]]) -> ReplayRecord:
    """Return the record after a batch; the last one of a partition number has no rows."""
    cursors = batch.piece.cursors
    by_topic: Counts = {}
    for (topic, outcome), count in sorted(counts.items()):
        by_topic.setdefault(topic, {})[outcome] = count
    if batch.piece.rows:
        return msgspec.structs.replace(
            record, partition=batch.number, cursors=cursors, counts=by_topic
        )
    ends = {
        str(Place(topic, cursor.topic_id, batch.number)): cursor.offset
        for topic, cursor in cursors.items()
    }
    return msgspec.structs.replace(
        record,
        partition=batch.number + 1,
        cursors={},
        positions={**record.positions, **ends},
        counts=by_topic,
    )


def _flat(counts: Counts) -> dict[tuple[str, str], int]:
    return {
        (topic, outcome): count
        for topic, outcomes in counts.items()
        for outcome, count in outcomes.items()
    }


def _batches(
    settings: Settings, record: ReplayRecord, limits: Limits
) -> Generator[Batch, None, None]:
    """Yield what is left of the window. Blocks."""
    window, kinds = record.window, Topics(settings).kinds
    for number in window.partitions:
        if number < record.partition:
            continue
        cursors = record.cursors if number == record.partition else {}
        with ExitStack() as stack:
            chunks = {
                topic: stack.enter_context(
                    closing(read_partition(settings, window, topic, number, cursors.get(topic)))
                )
                for topic in window.topics
                if str(number) in window.ends.get(topic, {})
            }
            for piece in in_order(chunks, window, number, cursors, BATCH):
                yield _batch(number, piece, kinds, limits)


def _batch(number: int, piece: Piece, kinds: Mapping[str, str], limits: Limits) -> Batch:
    events: list[LoggedEvent] = []
    counts: Counter[tuple[str, str]] = Counter()
    for row in piece.rows:
        if row.time_ms / 1000 < limits.oldest_s:
            counts[row.topic, "expired"] += 1
            continue
        try:
            logged = _parse(row, number, kinds[row.topic])
        except InvalidEvent:
            # A worker has dead-lettered it.
            counts[row.topic, "invalid"] += 1
            continue
        if limits.erasures and _is_erased(logged, row, limits.erasures):
            counts[row.topic, "erased"] += 1
        else:
            events.append(logged)
    return Batch(number, piece, events, counts)


def _parse(row: Row, number: int, kind: str) -> LoggedEvent:
    event = parse_event(row.value, kind, received_at=row.time_ms / 1000)
    return LoggedEvent(event, row.topic, row.topic_id, number, row.offset)


def _is_erased(logged: LoggedEvent, row: Row, erasures: Erasures) -> bool:
    return erasures.covers(
        logged.event.user_id,
        logged.topic,
        logged.topic_id,
        logged.partition,
        logged.offset,
        written_at=row.time_ms / 1000,
    )


async def _ahead(batches: Generator[Batch, None, None]) -> AsyncGenerator[Batch, None]:
    """Yield the batches, the next one being made in a thread meanwhile."""
    waiting = asyncio.ensure_future(asyncio.to_thread(next, batches, None))
    try:
        while (batch := await asyncio.shield(waiting)) is not None:
            waiting = asyncio.ensure_future(asyncio.to_thread(next, batches, None))
            yield batch
    finally:
        # It can be closed only when it is not at work.
        await asyncio.wait({waiting})
        if not waiting.cancelled():
            waiting.exception()
        await asyncio.to_thread(batches.close)


class _Pace:
    """Keeps to so many records a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._begun = time.monotonic()
        self._records = 0

    async def keep(self, records: int) -> None:
        """Wait until so many more may have been replayed."""
        self._records += records
        if self._rate:
            due = self._begun + self._records / self._rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
