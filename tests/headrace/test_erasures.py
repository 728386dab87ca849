"""Erasures: which records they cover, worked out by hand."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from headrace.erased_rows import not_erased
from headrace.erasures import Erasure, Erasures, parse_erasure
from headrace.errors import InvalidErasure

ANN = Erasure(
    user_id="ann",
    at=1_000.0,
    topic_ids={"clicks": "c1", "ratings": "r1"},
    through={"clicks": {"0": 5, "1": 0}, "ratings": {"0": 2}},
)
BOB = Erasure(user_id="bob", at=2_000.0, topic_ids={"clicks": "c2"}, through={"clicks": {"0": 9}})


def test_what_stood_before_the_end_of_its_partition_is_covered() -> None:
    def covered(topic: str, partition: int, offset: int) -> bool:
        topic_id = ANN.topic_ids[topic]
        return ANN.covers(topic, topic_id, partition, offset, written_at=500.0)

    assert covered("clicks", 0, 4)
    assert not covered("clicks", 0, 5)
    # Its partition was empty, or there was none, whatever the record says of its time.
    assert not covered("clicks", 1, 0)
    assert not covered("clicks", 7, 0)
    assert covered("ratings", 0, 1)


def test_of_a_topic_made_anew_the_time_tells() -> None:
    assert ANN.covers("clicks", "c0", 0, 99, written_at=1_000.0)
    assert not ANN.covers("clicks", "c2", 0, 0, written_at=1_000.5)
    assert ANN.covers("purchases", "p1", 3, 7, written_at=999.0)


@pytest.mark.parametrize("in_order", [True, False])
def test_of_a_users_erasures_each_covers_what_it_does_in_whatever_order_they_are_read(
    in_order: bool,
) -> None:
    """Once the topic has grown, the older one may stand in a partition that is read later."""
    late = msgspec.structs.replace(
        ANN, at=2_000.0, through={"clicks": {"0": 8}, "ratings": {"3": 1}},
        topic_ids={**ANN.topic_ids, "ratings": "made anew"},
    )  # fmt: skip
    both = [ANN, late] if in_order else [late, ANN]
    erasures = Erasures([BOB, *both])
    assert erasures.covers("ann", "clicks", "c1", 0, 7, written_at=5_000.0)
    assert not erasures.covers("ann", "clicks", "c1", 0, 8, written_at=5_000.0)
    for partition, end in ANN.through["clicks"].items():
        assert erasures.covers("ann", "clicks", "c1", int(partition), end - 1, written_at=5_000.0)
    # Of a topic that was made anew between them the later one tells; of the one before, the time.
    assert erasures.covers("ann", "ratings", "made anew", 3, 0, written_at=5_000.0)
    assert not erasures.covers("ann", "ratings", "made anew", 3, 1, written_at=5_000.0)
    assert erasures.covers("ann", "ratings", "another", 3, 900, written_at=2_000.0)
    assert erasures.by_user["ann"].at == 2_000.0
    assert not erasures.covers("cid", "clicks", "c1", 0, 0, written_at=0.0)
    erasures.drop("ann")
    erasures.drop("nobody")
    assert not erasures.covers("ann", "clicks", "c1", 0, 7, written_at=0.0)
    assert not Erasures()


def test_an_erasure_is_read_as_it_was_written() -> None:
    for user_id in ("ann", "{x}", "100%", "用户", "u" * 256):
        erasure = msgspec.structs.replace(ANN, user_id=user_id)
        assert parse_erasure(user_id.encode(), msgspec.json.encode(erasure)) == erasure


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (b"ann", b"\xff", "not JSON"),
        (b"ann", b"{}", "is required"),
        (b"bob", msgspec.json.encode(ANN), "is not the record's key"),
        (None, msgspec.json.encode(ANN), "is not the record's key"),
        (b"ann", msgspec.json.encode(ANN).replace(b"5", b"-5"), "through"),
        (b"ann", msgspec.json.encode(ANN).replace(b'"0"', b'"x"'), "not allowed"),
        (b"ann", msgspec.json.encode(ANN).replace(b'"c1"', b"7"), "topic_ids"),
        (
            b"ann",
            msgspec.json.encode(msgspec.structs.replace(ANN, topic_ids={"clicks": "c1"})),
            "no id of 'ratings'",
        ),
    ],
)
def test_what_is_no_erasure_is_refused(key: bytes | None, value: bytes, words: str) -> None:
    with pytest.raises(InvalidErasure, match=words):
        parse_erasure(key, value)


def test_rows_of_erased_users_are_told_by_hand() -> None:
    rows = [
        # user, partition, offset, time in ms, counts
        ("ann", 0, 4, 9_000_000, False),
        ("ann", 0, 5, 1, True),
        ("ann", 1, 0, 1, True),
        ("ann", 7, 0, 1, True),
        # Erased in another topic of this name: her time tells.
        ("bob", 0, 0, 2_000_001, True),
        ("bob", 0, 99, 2_000_000, False),
        ("cid", 0, 0, 1, True),
        ("", 0, 0, 1, True),
    ]
    user, partition, offset, time, counts = zip(*rows, strict=True)
    columns = (
        pa.array(user),
        np.array(partition, np.int32),
        np.array(offset, np.int64),
        np.array(time, np.int64),
    )
    erasures = Erasures([ANN, BOB])
    assert not_erased(erasures, "clicks", "c1", *columns).tolist() == list(counts)
    # Every row as one record is told.
    assert list(counts) == [
        not erasures.covers(row[0], "clicks", "c1", row[1], row[2], written_at=row[3] / 1000)
        for row in rows
    ]
    assert not_erased(Erasures(), "clicks", "c1", *columns).all()
    nothing = (pa.array([], pa.string()), *(column[:0] for column in columns[1:]))
    assert not_erased(erasures, "clicks", "c1", *nothing).tolist() == []
