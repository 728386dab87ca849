"""The one order in which the topics of a partition number are replayed.

What aggregates come to depends on how topics meet: a purchase follows the click before it. Workers
take them as they arrive; a replay takes them by (time, topic, offset), the time of a record being
the latest that its partition had shown by then, so that each partition keeps the log's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from headrace.records import Records
from headrace.replaying.window import Chunk, Cursor, Window


class Row(Struct, frozen=True):
    """A record in its place."""

    topic: str
    topic_id: str
    offset: int
    time_ms: int
    """The record's own."""
    value: bytes | None


@dataclass(frozen=True)
class Piece:
    """The next records of a partition number, and how far its topics have come with them."""

    rows: Sequence[Row]
    cursors: Mapping[str, Cursor]
    """By topic; of those that have come to the window."""


def in_order(
    chunks: Mapping[str, Iterator[Chunk]],
    window: Window,
    number: int,
    cursors: Mapping[str, Cursor],
    size: int,
) -> Iterator[Piece]:
    """Yield the records of partition `number`, at most `size` at once.

    `chunks` by topic, each from the log's beginning; what lies before the cursors is passed over.
    The order does not depend on how the log is cut into chunks, so a replay that goes on from
    cursors yields what one from the beginning does. One chunk of each topic is held. The last
    piece has no rows; its cursors stand where the window ends.
    """
    sources = [
        _Source(topic, chunks[topic], window, number, cursors.get(topic))
        for topic in sorted(chunks)
    ]
    while _fill(sources):
        counts = _settled(sources)
        time = np.concatenate(
            [each.latest[:count] for each, count in zip(sources, counts, strict=True)]
        )
        source = np.repeat(np.arange(len(sources)), counts)
        place = np.concatenate([np.arange(count) for count in counts])
        order = np.lexsort((place, source, time))
        for first in range(0, len(order), size):
            taken = order[first : first + size]
            yield _piece(sources, source[taken].tolist(), place[taken].tolist())
        for each, count in zip(sources, counts, strict=True):
            each.drop(count)
    yield Piece((), {each.topic: each.end for each in sources})


class _Source:
    """One topic's partition: a chunk of it at a time, without what lies beside the window."""

    def __init__(
        self,
        topic: str,
        chunks: Iterator[Chunk],
        window: Window,
        number: int,
        cursor: Cursor | None,
    ) -> None:
        self.topic = topic
        self.ended = False
        self.cursor = cursor
        self._chunks = chunks
        self._window = window
        self._replayed = cursor
        self._is_reached = False
        """Whether the topic that was replayed last has been met again."""
        partition_end = window.ends.get(topic, {}).get(str(number), 0)
        self.end = Cursor(window.topic_ids[topic], partition_end)
        """Where the window ends."""
        self._hold("", _NO_RECORDS)

    def _hold(self, topic_id: str, records: Records) -> None:
        # Of those held alone: what is older than a record that was handed out is next anyhow.
        self.latest: NDArray[np.int64] = np.maximum.accumulate(records.time)
        """Of each record held, the latest time up to it, in Unix milliseconds."""
        self._offsets: list[int] = records.offset.tolist()
        self._times: list[int] = records.time.tolist()
        self._records = records
        self._topic_id = topic_id

    def fill(self) -> bool:
        """Hold the next records, if none are held; return whether there are any."""
        while not len(self._records) and not self.ended:
            chunk = next(self._chunks, None)
            if chunk is None:
                self.ended = True
            else:
                self._hold(chunk.topic_id, self._wanted(chunk))
        return len(self._records) > 0

    def row(self, place: int) -> Row:
        """Return a record that is held."""
        return Row(
            self.topic,
            self._topic_id,
            self._offsets[place],
            self._times[place],
            self._records.values[place],
        )

    def advance(self, place: int) -> None:
        """Note that the records up to this one are handed out."""
        self.cursor = Cursor(self._topic_id, self._offsets[place] + 1)

    def drop(self, count: int) -> None:
        """Hold the first ones no more."""
        self._hold(self._topic_id, _part(self._records, count, len(self._records)))

    def _wanted(self, chunk: Chunk) -> Records:
        """Return what of the chunk lies in the window and has not been replayed."""
        records, window = chunk.records, self._window
        first, stop = 0, len(records)
        if self._replayed is not None and chunk.topic_id == self._replayed.topic_id:
            self._is_reached = True
            first = int(np.searchsorted(records.offset, self._replayed.offset))
        elif self._replayed is not None and not self._is_reached:
            # Of the topic as it was before it was made anew.
            first = stop
        if self.cursor is None and window.begin_ms is not None:
            first = _first(records.time >= window.begin_ms, first)
        if window.end_ms is not None and first < stop:
            stop = _first(records.time >= window.end_ms, first)
            if stop < len(records):
                self.ended = True
                self.end = Cursor(chunk.topic_id, int(records.offset[stop]))
        return _part(records, first, stop)


_NO_RECORDS = Records((), np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64))


def _fill(sources: Sequence[_Source]) -> bool:
    """Hold records of all sources: the order is known as far as each has come."""
    filled = [source.fill() for source in sources]
    return any(filled)


def _settled(sources: Sequence[_Source]) -> list[int]:
    """Return of each source how many of the records held no later record can precede."""
    bounds = [
        (int(source.latest[-1]), nth) for nth, source in enumerate(sources) if not source.ended
    ]
    if not bounds:
        return [len(source.latest) for source in sources]
    time, last = min(bounds)
    return [
        int(np.searchsorted(source.latest, time, side="right" if nth <= last else "left"))
        for nth, source in enumerate(sources)
    ]


def _piece(sources: Sequence[_Source], source: list[int], place: list[int]) -> Piece:
    rows = [sources[nth].row(at) for nth, at in zip(source, place, strict=True)]
    # Of each source the last one stays.
    for nth, at in dict(zip(source, place, strict=True)).items():
        sources[nth].advance(at)
    return Piece(rows, {each.topic: each.cursor for each in sources if each.cursor is not None})


def _part(records: Records, first: int, stop: int) -> Records:
    rows = slice(first, stop)
    return Records(
        records.values[rows], records.partition[rows], records.offset[rows], records.time[rows]
    )


def _first(holds: NDArray[np.bool_], after: int) -> int:
    """Return the first place from `after` on where it holds, or the length."""
    places = np.flatnonzero(holds[after:])
    return after + int(places[0]) if len(places) else len(holds)
