"""The order of a replay: the same however the log is cut, and wherever a replay was stopped."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest

from headrace.records import Records
from headrace.replaying.order import Cursor, Piece, Row, in_order
from headrace.replaying.window import Chunk, Window

Log = Mapping[str, Sequence[int]]
"""By topic, the records' times; a record's value is its offset."""


def window(log: Log, begin_ms: int | None = None, end_ms: int | None = None) -> Window:
    return Window(
        topics=tuple(log),
        begin_ms=begin_ms,
        end_ms=end_ms,
        topic_ids={topic: f"{topic}-id" for topic in log},
        ends={topic: {"0": len(times)} for topic, times in log.items()},
    )


def chunks(log: Log, topic: str, sizes: Iterator[int]) -> Iterator[Chunk]:
    first, times = 0, log[topic]
    while first < len(times):
        stop = min(first + next(sizes), len(times))
        offsets = np.arange(first, stop)
        records = Records(
            values=[str(offset).encode() for offset in offsets],
            partition=np.zeros(len(offsets), np.int32),
            offset=offsets,
            time=np.array(times[first:stop], np.int64),
        )
        yield Chunk(f"{topic}-id", records)
        first = stop


def pieces(
    log: Log, of: Window, cursors: Mapping[str, Cursor], rng: random.Random, size: int
) -> list[Piece]:
    sizes = iter(lambda: rng.randint(1, 7), None)
    read = {topic: chunks(log, topic, sizes) for topic in log}
    return list(in_order(read, of, 0, cursors, size))


def rows(found: Sequence[Piece]) -> list[tuple[str, int]]:
    return [(row.topic, row.offset) for piece in found for row in piece.rows]


def plainly(log: Log) -> list[tuple[str, int]]:
    """The order, computed from all of the log at once."""
    keyed = []
    for topic, times in log.items():
        latest = -1
        for offset, time in enumerate(times):
            latest = max(latest, time)
            keyed.append((latest, topic, offset))
    return [(topic, offset) for _, topic, offset in sorted(keyed)]


def draw(rng: random.Random) -> Log:
    """Few different times, so that many are equal, and late ones."""
    return {
        topic: [n // 3 + rng.randint(-3, 3) + 10 for n in range(rng.randint(0, 40))]
        for topic in ("clicks", "purchases", "ratings")
    }


def test_a_purchase_follows_the_click_before_it() -> None:
    # By time 1, 2, 3, 4; the click of time 1 that came late stays behind that of time 3.
    log = {"clicks": [1, 3, 1], "purchases": [2, 4]}
    found = rows(pieces(log, window(log), {}, random.Random(0), 2))
    assert found == [
        ("clicks", 0),
        ("purchases", 0),
        ("clicks", 1),
        ("clicks", 2),
        ("purchases", 1),
    ]


@pytest.mark.parametrize("seed", range(60))
def test_the_order_depends_on_the_log_alone(seed: int) -> None:
    rng = random.Random(seed)
    log = draw(rng)
    assert rows(pieces(log, window(log), {}, rng, rng.randint(1, 9))) == plainly(log)


@pytest.mark.parametrize("seed", range(60))
def test_stopped_anywhere_it_goes_on_as_if_it_had_not_been(seed: int) -> None:
    rng = random.Random(seed)
    log = draw(rng)
    whole = pieces(log, window(log), {}, rng, 4)
    for stopped, piece in enumerate(whole[:-1]):
        rest = pieces(log, window(log), piece.cursors, rng, 3)
        assert rows(whole[: stopped + 1]) + rows(rest) == plainly(log)


def test_a_window_begins_and_ends_at_an_offset_of_each_partition() -> None:
    # From 10 on, late ones included, to before the first of 20; what is late after that is outside.
    log = {"clicks": [8, 10, 9, 15, 20, 12], "ratings": [9, 9], "purchases": [25, 11]}
    found = pieces(log, window(log, 10, 20), {}, random.Random(1), 10)
    assert rows(found) == [("clicks", 1), ("clicks", 2), ("clicks", 3)]
    ends = {topic: cursor.offset for topic, cursor in found[-1].cursors.items()}
    assert ends == {"clicks": 4, "ratings": 2, "purchases": 0}


def test_of_a_topic_that_was_made_anew_what_was_replayed_is_passed_over() -> None:
    def both() -> Iterator[Chunk]:
        for topic_id, times in (("old", [1, 2, 3]), ("new", [4, 5])):
            count = len(times)
            yield Chunk(
                topic_id,
                Records(
                    values=[b""] * count,
                    partition=np.zeros(count, np.int32),
                    offset=np.arange(count),
                    time=np.array(times, np.int64),
                ),
            )

    of = window({"clicks": [0, 0]})
    for cursor, left in (
        (Cursor("old", 2), [("old", 2), ("new", 0), ("new", 1)]),
        (Cursor("old", 3), [("new", 0), ("new", 1)]),
        (Cursor("new", 1), [("new", 1)]),
    ):
        found = in_order({"clicks": both()}, of, 0, {"clicks": cursor}, 10)
        got: list[Row] = [row for piece in found for row in piece.rows]
        assert [(row.topic_id, row.offset) for row in got] == left
