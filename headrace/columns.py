"""From records as they lie in Kafka to `EventColumns`: parsed, each event once, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headrace.bulk_events import ParsedEvents, parse_events
from headrace.erased_rows import not_erased
from headrace.erasures import Erasures
from headrace.events import KINDS, EventColumns
from headrace.fingerprints import Fingerprints
from headrace.records import Batch, Records
from headrace.topics import EVENT_TOPICS

_CHUNK_RECORDS = 65_536
_CHUNK_BYTES = 16 * 2**20
"""So much of a topic is parsed at once: enough for the parser, little beside the columns."""
_NO_RECORDS = Records((), np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64))


_Source = tuple[str, str]
"""A topic and its id: within it a partition and an offset name one record."""


@dataclass(frozen=True)
class _Events:
    """m events of one source."""

    source: _Source
    timestamp: NDArray[np.float64]
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    fingerprint: NDArray[np.uint64]
    """`[2, m]`: the event's id."""
    rating: NDArray[np.float32]
    user: pa.DictionaryArray
    item: pa.DictionaryArray


@dataclass(frozen=True)
class Places:
    """Where each of n events stood in the log."""

    sources: tuple[tuple[str, str], ...]
    """Topics and their ids."""
    source: NDArray[np.int32]
    """Codes into `sources`."""
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]


class ColumnBuilder:
    """Gathers records and makes columns of them.

    What is not an event is passed over, and so is what came before its user was erased. It holds 48
    bytes for each event, however long its id, and the ids of users and items.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        erasures: Erasures | None = None,
        kinds: Mapping[str, str] = EVENT_TOPICS,
    ) -> None:
        """`rng` draws the keys of `Fingerprints`; what is built does not depend on it.

        `kinds`: by topic, without its prefix, the kind of event that it carries.
        """
        self._kinds = kinds
        self._erasures = Erasures() if erasures is None else erasures
        self._fingerprints = Fingerprints(rng)
        # Columns have their types though there be no record.
        self._waiting = {(next(iter(kinds)), ""): _Waiting()}
        self._events: list[_Events] = []

    def add(self, batch: Batch) -> None:
        """Take records of one of the topics of `kinds`, in any order; less than 1 GiB at a time."""
        source = (batch.topic, batch.topic_id)
        waiting = self._waiting.setdefault(source, _Waiting())
        waiting.add(batch.records)
        if waiting.count >= _CHUNK_RECORDS or waiting.bytes >= _CHUNK_BYTES:
            self._parse(source)

    def build(
        self,
        through: Mapping[str, Mapping[str, int]],
        *,
        begin: float | None = None,
        end: float | None = None,
    ) -> EventColumns:
        """Return the columns, sorted by (timestamp, topic, its id, partition, offset).

        Events before `begin` are left out, and those from `end` on, both Unix seconds.

        Of an event that was sent more than once the first in this order stays, so that the same
        log makes the same columns in whatever order its partitions arrived. The builder begins
        anew.
        """
        return self.build_placed(through, begin=begin, end=end)[0]

    def build_placed(
        self,
        through: Mapping[str, Mapping[str, int]],
        *,
        begin: float | None = None,
        end: float | None = None,
    ) -> tuple[EventColumns, Places]:
        """Return the columns as `build` does, and where their events stood."""
        for waiting in self._waiting:
            self._parse(waiting)
        events, self._events = self._events, []
        sources = sorted({each.source for each in events})
        code = {each: number for number, each in enumerate(sources)}
        timestamp = np.concatenate([each.timestamp for each in events])
        source = np.repeat(
            np.array([code[each.source] for each in events], np.int32),
            [len(each.timestamp) for each in events],
        )
        offset = np.concatenate([each.offset for each in events])
        partition = np.concatenate([each.partition for each in events])
        order = np.lexsort((offset, partition, source, timestamp))
        order = order[_between(timestamp[order], begin, end)]
        order = _first_of_each(np.concatenate([each.fingerprint for each in events], 1), order)
        user, user_ids = recode([each.user for each in events], order)
        item, item_ids = recode([each.item for each in events], order)
        kind = np.array([KINDS.index(self._kinds[topic]) for topic, _ in sources], np.int8)
        columns = EventColumns(
            user=user,
            item=item,
            timestamp=timestamp[order],
            kind=kind[source[order]],
            rating=np.concatenate([each.rating for each in events])[order],
            user_ids=user_ids,
            item_ids=item_ids,
            through={topic: dict(offsets) for topic, offsets in through.items()},
        )
        return columns, Places(tuple(sources), source[order], partition[order], offset[order])

    def _parse(self, source: _Source) -> None:
        """Make events of the source's records that wait, be they none."""
        records = self._waiting[source].taken()
        parsed = parse_events(records.values, self._kinds[source[0]], records.time / 1000)
        # Before copies are told apart: one sent again after the erasure counts.
        parsed = parsed.only(self._count(source, parsed, records))
        row = parsed.row
        self._events.append(
            _Events(
                source=source,
                timestamp=parsed.timestamp,
                partition=records.partition[row],
                offset=records.offset[row],
                fingerprint=self._fingerprints.of(parsed.event_id),
                rating=parsed.rating.astype(np.float32),
                user=_encoded(parsed.user_id),
                item=_encoded(parsed.item_id),
            )
        )

    def _count(self, source: _Source, parsed: ParsedEvents, records: Records) -> NDArray[np.bool_]:
        row = parsed.row
        return not_erased(
            self._erasures,
            *source,
            parsed.user_id,
            records.partition[row],
            records.offset[row],
            records.time[row],
        )


class _Waiting:
    """A topic's records that are not parsed yet."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._records = [_NO_RECORDS]
        self.count = self.bytes = 0

    def add(self, records: Records) -> None:
        self._records.append(records)
        self.count += len(records)
        self.bytes += sum(map(len, filter(None, records.values)))

    def taken(self) -> Records:
        """Return all of them as one, and hold none."""
        taken = Records(
            values=[value for each in self._records for value in each.values],
            partition=np.concatenate([each.partition for each in self._records]),
            offset=np.concatenate([each.offset for each in self._records]),
            time=np.concatenate([each.time for each in self._records]),
        )
        self._clear()
        return taken


def _encoded(ids: pa.StringArray) -> pa.DictionaryArray:
    # Large: the ids of all users may be more than 2 GiB.
    return ids.cast(pa.large_string()).dictionary_encode()


def _between(timestamp: NDArray[np.float64], begin: float | None, end: float | None) -> slice:
    """Return where in these times, which ascend, those from `begin` to `end` stand."""
    first = 0 if begin is None else int(np.searchsorted(timestamp, begin))
    last = len(timestamp) if end is None else int(np.searchsorted(timestamp, end))
    return slice(first, max(first, last))


def _first_of_each(fingerprint: NDArray[np.uint64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out of `order` each row whose fingerprint stands earlier in it."""
    high, low = fingerprint[0][order], fingerprint[1][order]
    # lexsort is stable: of equal ones the earliest comes first.
    equal = np.lexsort((low, high))
    again = (np.diff(high[equal]) == 0) & (np.diff(low[equal]) == 0)
    first = np.ones(len(order), np.bool_)
    first[equal[1:][again]] = False
    return order[first]


def recode(
    chunks: list[pa.DictionaryArray], order: NDArray[np.int64]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Number ids by their first place in the sorted log, whatever order partitions arrived in."""
    unified = pa.chunked_array(chunks).unify_dictionaries()
    ids = unified.chunk(0).dictionary
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in unified.chunks])[order]
    place = np.arange(len(codes))
    first = np.full(len(ids), len(codes))
    # Of a code that stands more than once the last assignment holds: that of its first place.
    first[codes[::-1]] = place[::-1]
    by_first = np.argsort(first)[: np.count_nonzero(first < len(codes))]
    number = np.zeros(len(ids), np.int32)
    number[by_first] = np.arange(len(by_first), dtype=np.int32)
    return number[codes], tuple(ids.take(pa.array(by_first)).to_pylist())
