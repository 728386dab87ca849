"""Columns of records: as if each were parsed by itself, the log sorted, and repeats left out."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.columns import ColumnBuilder
from headrace.commands.synthetic_log import DUPLICATES, MALFORMED, synthetic_log
from headrace.errors import InvalidEvent
from headrace.events import EventColumns, parse_event
from headrace.records import Batch, Records
from headrace.topics import EVENT_TOPICS

NOW_MS = 1_704_060_026_000


def records(rows: Iterable[tuple[bytes | None, int, int]]) -> Records:
    values, partition, offset = list(zip(*rows, strict=True)) or ((), (), ())
    return Records(
        values=values,
        partition=np.array(partition, np.int32),
        offset=np.array(offset, np.int64),
        time=np.full(len(values), NOW_MS),
    )


def built(pieces: Iterable[Batch]) -> EventColumns:
    builder = ColumnBuilder(np.random.default_rng(1))
    for piece in pieces:
        builder.add(piece)
    return builder.build({"clicks": {"0": 5}})


def plainly(pieces: Iterable[Batch]) -> list[tuple[Any, ...]]:
    """Sorted rows of (kind, user, item, timestamp, rating), each event once."""
    found = []
    for piece in pieces:
        topic, some = piece.topic, piece.records
        columns = (some.partition.tolist(), some.offset.tolist(), some.time.tolist())
        for value, partition, offset, at in zip(some.values, *columns, strict=True):
            try:
                event = parse_event(value, EVENT_TOPICS[topic], received_at=at / 1000)
            except InvalidEvent:
                continue
            found.append(((event.timestamp, topic, piece.topic_id, partition, offset), event))
    first: dict[str, Any] = {}
    for _, event in sorted(found, key=lambda each: each[0]):
        first.setdefault(event.event_id, event)
    return [
        (event.kind, event.user_id, event.item_id, event.timestamp, getattr(event, "rating", None))
        for event in first.values()
    ]


def rows(columns: EventColumns) -> list[tuple[Any, ...]]:
    kinds = ("click", "purchase", "rating")
    return [
        (
            kinds[kind],
            columns.user_ids[user],
            columns.item_ids[item],
            timestamp,
            None if math.isnan(rating) else rating,
        )
        for kind, user, item, timestamp, rating in zip(
            columns.kind.tolist(),
            columns.user.tolist(),
            columns.item.tolist(),
            columns.timestamp.tolist(),
            columns.rating.tolist(),
            strict=True,
        )
    ]


def numbered_by_first_place(codes: Iterable[int]) -> bool:
    seen = list(dict.fromkeys(codes))
    return seen == list(range(len(seen)))


def test_of_no_records() -> None:
    columns = built([])
    assert len(columns) == 0
    assert (columns.user_ids, columns.item_ids) == ((), ())
    assert columns.through == {"clicks": {"0": 5}}
    assert (columns.user.dtype, columns.rating.dtype) == (np.int32, np.float32)


def test_of_records_none_of_which_is_an_event() -> None:
    assert len(built([Batch("clicks", "one", records([(b"x", 0, 0), (None, 0, 1)]))])) == 0


ids = st.sampled_from(["a", "b", "c", "dé", 'e"'])
some_events = st.builds(
    lambda **fields: json.dumps(fields).encode(),
    event_id=ids | st.text("ab", min_size=1, max_size=3),
    user_id=ids,
    item_id=ids,
    timestamp=st.sampled_from([0, 1, 1.5, NOW_MS / 1000, NOW_MS]),
    rating=st.sampled_from([1, 4.5]),
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["purchases", "ratings"]),
            st.sampled_from(["one", "two"]),
            st.integers(0, 2),
            some_events | st.none() | st.just(b"{}"),
        ),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_as_if_one_by_one_in_whatever_order_they_come(log: list[Any], random: Any) -> None:
    # A topic made anew has the same offsets again.
    offsets = {"one": itertools.count(), "two": itertools.count()}
    pieces = [
        Batch(topic, topic_id, records([(value, partition, next(offsets[topic_id]))]))
        for topic, topic_id, partition, value in log
    ]
    columns = built(pieces)
    assert rows(columns) == plainly(pieces)
    assert numbered_by_first_place(columns.user.tolist())
    assert numbered_by_first_place(columns.item.tolist())
    random.shuffle(pieces)
    assert rows(built(pieces)) == rows(columns)


def test_of_more_records_than_are_parsed_at_once() -> None:
    pieces = list(synthetic_log(200_000))
    columns = built(pieces)
    assert rows(columns) == plainly(pieces)
    lost = 1 - len(columns) / 200_000
    assert abs(lost - DUPLICATES - MALFORMED) < 0.003


def test_the_same_log_is_made_up_again() -> None:
    one, two = list(synthetic_log(2_000)), list(synthetic_log(2_000))
    assert {piece.topic for piece in one} == set(EVENT_TOPICS)
    values = [piece.records.values for piece in one]
    assert values == [piece.records.values for piece in two]
    assert values != [piece.records.values for piece in synthetic_log(2_000, 1)]
    assert sum(map(len, values)) == 2_000
