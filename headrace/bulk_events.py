"""Many records of a topic at once, parsed to columns: the events that `parse_event` would return.

A regular expression proves of a record that it is an event, and Arrow decodes what is proven. The
rest (an escape in an id, an exponent, an id near its longest, whatever is wrong) is left to
`parse_event`. So the expression may prove too little, which costs time, but never too much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from numpy.typing import NDArray

from headrace.errors import InvalidEvent
from headrace.event_patterns import PATTERNS
from headrace.events import MAX_AHEAD_S, MAX_BYTES, AnyEvent, parse_event


@dataclass(frozen=True)
class ParsedEvents:
    """The m of n records that are events; which of them stand first is not told."""

    row: NDArray[np.int64]
    """Which of the n records it was."""
    event_id: pa.StringArray
    user_id: pa.StringArray
    item_id: pa.StringArray
    timestamp: NDArray[np.float64]
    """Unix seconds."""
    rating: NDArray[np.float64]
    """NaN where the event has none."""

    def only(self, kept: NDArray[np.bool_]) -> ParsedEvents:
        """Return those of which `[m]` says that they are kept."""
        if kept.all():
            return self
        mask = pa.array(kept)
        return ParsedEvents(
            row=self.row[kept],
            event_id=self.event_id.filter(mask),
            user_id=self.user_id.filter(mask),
            item_id=self.item_id.filter(mask),
            timestamp=self.timestamp[kept],
            rating=self.rating[kept],
        )


def parse_events(
    values: Sequence[bytes | None], kind: str, received_at: NDArray[np.float64]
) -> ParsedEvents:
    """Parse records of the topic that carries `kind`, one of `KINDS`; what is no event is left out.

    `received_at`: `[n]`, the records' own times in Unix seconds. Together the records must be
    shorter than 2 GiB, of which those longer than `MAX_BYTES` do not count.
    """
    lines = _Lines(values)
    quick = _decode(lines, np.flatnonzero(lines.that_match(PATTERNS[kind])), kind, received_at)
    unproven = np.ones(len(values), np.bool_)
    unproven[quick.row] = False
    rows = np.flatnonzero(unproven)
    return quick if not len(rows) else _joined(quick, _one_by_one(values, rows, kind, received_at))


class _Lines:
    """Records in one buffer, a line each. One that is too long is an empty line."""

    def __init__(self, values: Sequence[bytes | None]) -> None:
        lines = [value if value and len(value) <= MAX_BYTES else b"" for value in values]
        lengths = np.fromiter(map(len, lines), np.int64, len(lines))
        self._offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths + 1)))
        self._text = b"\n".join((*lines, b""))
        self._array = pa.LargeStringArray.from_buffers(
            len(lines), pa.py_buffer(self._offsets), pa.py_buffer(self._text)
        )

    def that_match(self, pattern: str) -> NDArray[np.bool_]:
        """Return of each line whether it is UTF-8 and matches, its newline included."""
        matched = pc.match_substring_regex(self._array, pattern)
        return np.asarray(_numpy(matched) & self._are_utf8())

    def text(self, rows: NDArray[np.int64]) -> pa.Buffer:
        """Return these lines, which ascend, one after the other."""
        if len(rows) == len(self._array):
            return pa.py_buffer(self._text)
        taken = self._array.take(pa.array(rows))
        return taken.buffers()[2].slice(0, int(_numpy(pc.binary_length(taken)).sum()))

    def _are_utf8(self) -> NDArray[np.bool_]:
        """Return of each line whether it is UTF-8; when one is not, of those beyond ASCII none."""
        valid = np.ones(len(self._array), np.bool_)
        if not self._text.isascii():
            try:
                self._text.decode()
            except UnicodeDecodeError:
                beyond = np.flatnonzero(np.frombuffer(self._text, np.uint8) >= 0x80)
                valid[np.searchsorted(self._offsets, beyond, side="right") - 1] = False
        return valid


def _decode(
    lines: _Lines, rows: NDArray[np.int64], kind: str, received_at: NDArray[np.float64]
) -> ParsedEvents:
    """Decode these lines; those with every field that is needed, in its bounds, are events."""
    if not len(rows):
        return _NOTHING
    try:
        table = _read_json(lines.text(rows))
    except pa.ArrowInvalid:
        # A field stands twice in one of them, which `parse_event` reads and Arrow does not.
        return _NOTHING
    event_id, user_id, item_id, timestamp, rating = (
        column.combine_chunks() for column in table.columns
    )
    seconds = _numpy(pc.fill_null(timestamp, math.nan))
    ratings = _numpy(pc.fill_null(rating, math.nan))
    good = (
        _has_bytes(event_id, 128)
        & _has_bytes(user_id, 256)
        & _has_bytes(item_id, 256)
        & (seconds <= received_at[rows] + MAX_AHEAD_S)
        & ((np.abs(ratings) <= 1_000) | (np.isnan(ratings) & (kind != "rating")))
    )
    kept = pa.array(good)
    return ParsedEvents(
        row=rows[good],
        event_id=event_id.filter(kept),
        user_id=user_id.filter(kept),
        item_id=item_id.filter(kept),
        timestamp=seconds[good],
        rating=ratings[good],
    )


def _read_json(text: pa.Buffer) -> pa.Table:
    return pj.read_json(
        pa.BufferReader(text),
        # One block: a line never stands across two.
        read_options=pj.ReadOptions(use_threads=False, block_size=text.size + 1),
        # What else is there is proven already.
        parse_options=pj.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore"),
    )


def _has_bytes(ids: pa.StringArray, most: int) -> NDArray[np.bool_]:
    """Return of each id whether it is there and no longer than `most` bytes of UTF-8."""
    length = _numpy(pc.fill_null(pc.binary_length(ids), 0))
    return np.asarray((length > 0) & (length <= most))


def _one_by_one(
    values: Sequence[bytes | None],
    rows: NDArray[np.int64],
    kind: str,
    received_at: NDArray[np.float64],
) -> ParsedEvents:
    events: dict[int, AnyEvent] = {}
    for row in rows.tolist():
        try:
            events[row] = parse_event(values[row], kind, received_at=float(received_at[row]))
        except InvalidEvent:
            continue
    ratings = [getattr(event, "rating", None) for event in events.values()]
    return ParsedEvents(
        row=np.fromiter(events, np.int64, len(events)),
        event_id=pa.array([event.event_id for event in events.values()], pa.string()),
        user_id=pa.array([event.user_id for event in events.values()], pa.string()),
        item_id=pa.array([event.item_id for event in events.values()], pa.string()),
        timestamp=np.array([event.timestamp for event in events.values()], np.float64),
        rating=np.array([math.nan if r is None else r for r in ratings], np.float64),
    )


def _joined(one: ParsedEvents, other: ParsedEvents) -> ParsedEvents:
    return ParsedEvents(
        row=np.concatenate((one.row, other.row)),
        event_id=pa.concat_arrays((one.event_id, other.event_id)),
        user_id=pa.concat_arrays((one.user_id, other.user_id)),
        item_id=pa.concat_arrays((one.item_id, other.item_id)),
        timestamp=np.concatenate((one.timestamp, other.timestamp)),
        rating=np.concatenate((one.rating, other.rating)),
    )


def _numpy(column: pa.Array) -> NDArray[Any]:
    array: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


_SCHEMA = pa.schema(
    {
        "event_id": pa.string(),
        "user_id": pa.string(),
        "item_id": pa.string(),
        "timestamp": pa.float64(),
        "rating": pa.float64(),
    }
)
_NO_IDS = pa.array([], pa.string())
_NOTHING = ParsedEvents(np.empty(0, np.int64), _NO_IDS, _NO_IDS, _NO_IDS, np.empty(0), np.empty(0))
