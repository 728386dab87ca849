"""What an incremental training reads: all that is new, and a bounded sample of what is old."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka_tools import send_events

from headrace.events import KINDS, EventColumns
from headrace.log import end_offsets, read_columns
from headrace.log_sample import PIECES, new_of, read_new, sample_size, sampled
from headrace.settings import Settings
from headrace.topics import ensure_topics, event_topic_ids


def log_of(users: list[int]) -> EventColumns:
    """One click of each user in turn on an item of its own, a second apart."""
    n = len(users)
    return EventColumns(
        user=np.array(users, np.int32),
        item=np.arange(n, dtype=np.int32),
        timestamp=np.arange(n, dtype=np.float64),
        kind=np.full(n, KINDS.index("click"), np.int8),
        rating=np.full(n, np.nan, np.float32),
        user_ids=tuple(f"u{n}" for n in range(max(users) + 1)),
        item_ids=tuple(f"i{n}" for n in range(n)),
        through={},
    )


@given(st.integers(0, 10_000), st.integers(1, 10_000), st.lists(st.floats(0, 1), min_size=8))
def test_a_sample_is_bounded_and_holds_no_record_twice(
    end: int, wanted: int, places: list[float]
) -> None:
    ranges = sampled(end, wanted, places)
    offsets = [offset for span in ranges for offset in span]
    assert len(offsets) == len(set(offsets)) <= max(wanted, 0)
    assert len(offsets) >= min(end, wanted) - len(places)
    assert all(0 <= offset < end for offset in offsets)
    assert ranges[0].stop == end


def test_the_sample_grows_with_what_is_new_and_not_with_what_is_old() -> None:
    assert sample_size(1_000, 2.0, 500) == 2_000
    assert sample_size(10, 2.0, 500) == 500
    rng = np.random.default_rng(0)
    for old in (10_000, 100_000):
        new = new_of(log_of([0] * (old + 100)), old, 800, rng)
        assert int(new.is_new.sum()) == 100
        assert 780 <= int((~new.is_new).sum()) <= 800


def test_a_user_is_another_one_in_an_older_piece_but_goes_on_from_the_newest() -> None:
    new = new_of(log_of([0] * 1_000), 900, 400, np.random.default_rng(0))
    columns = new.columns
    assert set(columns.user_ids) == {"u0"}
    assert len(columns.user_ids) == 1 + PIECES
    for code in range(len(columns.user_ids)):
        of_user = columns.item[columns.user == code]
        assert (np.diff(of_user) == 1).all()
    # The 200 newest of the old ones and the 100 new ones are one history.
    assert (columns.user == columns.user[-1]).sum() == 300


@pytest.mark.parametrize("twice", [False, True])
def test_what_is_read_of_kafka(settings: Settings, twice: bool) -> None:
    settings = msgspec.structs.replace(
        settings, topics=msgspec.structs.replace(settings.topics, partitions=2)
    )
    ensure_topics(settings)

    def send(first: int, end: int) -> None:
        events = [
            {"event_id": f"e{n}", "user_id": f"u{n % 7}", "item_id": f"i{n}", "timestamp": n}
            for n in range(first, end)
        ]
        send_events(settings, "clicks", events)

    send(0, 2_000)
    since = end_offsets(settings)
    send(1_990 if twice else 2_000, 2_100)
    ids, through = event_topic_ids(settings), end_offsets(settings)
    rng = np.random.default_rng(3)
    new = read_new(settings, since, through, ids, share=2.0, least=100, rng=rng)
    assert {new.columns.item_ids[item] for item in new.columns.item[new.is_new]} == {
        f"i{n}" for n in range(2_000, 2_100)
    }
    assert 180 <= int((~new.is_new).sum()) <= 240
    assert new.columns.through == through

    rng = np.random.default_rng(3)
    everything = read_new(settings, since, through, ids, share=99.0, least=100, rng=rng)
    whole = read_columns(settings, through, topic_ids=ids)
    assert replace(everything.columns, user_ids=()).item_ids == whole.item_ids
    np.testing.assert_array_equal(everything.columns.item, whole.item)
