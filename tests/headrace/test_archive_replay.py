"""Archive and topic read as one log: each offset once, and from Kafka what only Kafka holds."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from archive_tools import archive, drop, files, send
from kafka_tools import delete_topic, send_events, send_raw

from headrace.archive import Archive
from headrace.errors import HeadraceError
from headrace.events import EventColumns
from headrace.log import end_offsets, read_columns
from headrace.replay import plan_replay, replay
from headrace.replaying.window import Cursor, Window, read_partition
from headrace.settings import Settings
from headrace.topics import EVENT_TOPICS, ensure_topics, event_topic_ids

pytestmark = pytest.mark.brokers("embedded", "apache")

NOW = 1_704_060_026.0


@pytest.fixture
def made(settings: Settings) -> Settings:
    ensure_topics(settings)
    return settings


def without_archive(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, archive=settings.archive + "-none")


def away(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, kafka="127.0.0.1:9")


def some_events(rng: random.Random, count: int) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"{rng.random()}",
            "user_id": f"u{rng.randrange(9)}",
            "item_id": f"i{rng.randrange(9)}",
            "timestamp": NOW + rng.randrange(50),
            "rating": rng.randrange(5),
        }
        for _ in range(count)
    ]


def rows(batches: Any) -> list[tuple[str, str, int, int, bytes | None]]:
    return [
        (batch.topic, batch.topic_id, partition, offset, value)
        for batch in batches
        for partition, offset, value in zip(
            batch.records.partition.tolist(),
            batch.records.offset.tolist(),
            batch.records.values,
            strict=True,
        )
    ]


def same(one: EventColumns, other: EventColumns) -> bool:
    arrays = ("user", "item", "timestamp", "kind", "rating")
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "rating")
        for name in arrays
    ) and (one.user_ids, one.item_ids, one.through) == (
        other.user_ids,
        other.item_ids,
        other.through,
    )


def values(count: int, text: str = "v") -> list[tuple[bytes | None, bytes | None]]:
    return [(b"k", f"{text}{number}".encode()) for number in range(count)]


def test_columns_are_those_of_the_topics_alone(made: Settings) -> None:
    rng = random.Random(7)
    for _ in range(3):
        for topic in EVENT_TOPICS:
            send_events(made, topic, some_events(rng, 150))
        send_raw(made, "clicks", [(b"k", None), (b"k", b"no event")], partition=1)
        archive(made)
    send_events(made, "ratings", some_events(rng, 150))
    through = end_offsets(made)
    told: list[float] = []
    columns = read_columns(made, through, told.append)
    assert same(columns, read_columns(without_archive(made), through))
    assert len(columns) > 600
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0, 1)


def test_each_offset_comes_once_the_archived_ones_first(made: Settings) -> None:
    send_raw(made, "clicks", values(5), partition=0)
    archive(made)
    send_raw(made, "clicks", values(3, "new"), partition=0)
    send_raw(made, "clicks", values(2, "other"), partition=1)
    got = rows(replay(made, end_offsets(made)))
    assert got[:5] == rows(replay(made, {"clicks": {"0": 5}}))
    assert sorted(row[2:] for row in got) == [
        *((0, n, b"v%d" % n) for n in range(5)),
        *((0, 5 + n, b"new%d" % n) for n in range(3)),
        *((1, n, b"other%d" % n) for n in range(2)),
    ]
    assert {row[:2] for row in got} == {("clicks", event_topic_ids(made)["clicks"])}


def test_kafka_is_asked_for_nothing_that_is_archived(made: Settings) -> None:
    send_raw(made, "clicks", values(5), partition=0)
    archive(made)
    ids, through = event_topic_ids(made), end_offsets(made)
    got = rows(replay(away(made), through, topic_ids=ids))
    assert [row[3] for row in got] == list(range(5))

    send_raw(made, "clicks", values(2), partition=0)
    plan = plan_replay(made, end_offsets(made))
    assert plan.live == {"clicks": {0: range(5, 7)}, "purchases": {}, "ratings": {}}
    assert plan.offsets == 7


@pytest.mark.parametrize(
    ("start", "end", "live"), [(0, 4, range(0)), (2, 12, range(10, 12)), (11, 14, range(11, 14))]
)
def test_any_window_of_it(made: Settings, start: int, end: int, live: range) -> None:
    send_raw(made, "clicks", values(6), partition=2)
    archive(made, max_records=4)
    send_raw(made, "clicks", values(4), partition=2)
    archive(made)
    send_raw(made, "clicks", values(5), partition=2)
    assert len(files(made)) == 3
    through, begin = {"clicks": {"2": end}}, {"clicks": {"2": start}}
    assert [row[3] for row in rows(replay(made, through, start=begin))] == list(range(start, end))
    assert plan_replay(made, through, start=begin).live["clicks"].get(2, range(0)) == live


def test_of_what_is_archived_a_window_needs_the_files_from_its_first_day_on(
    made: Settings,
) -> None:
    day = 24 * 3600 * 1000
    # Two files of earlier days; one that holds a late record, too; one that begins with such a one.
    files_ms = [[0, 1], [day], [2 * day, 2 * day + 5, day], [day, 1], [2 * day + 9]]
    for times in files_ms:
        send(made, "clicks", 0, [(b"k", time_ms, b"v") for time_ms in times])
        archive(made)
    assert len(files(made)) == len(files_ms)
    ids, through = event_topic_ids(made), {"clicks": {"0": 9}}
    send(made, "clicks", 0, [(b"k", 2 * day + 10, b"v")])
    ends = {"clicks": {"0": 10}}

    def offsets(begin_ms: int, after: Cursor | None = None) -> list[int]:
        window = Window(topics=("clicks",), topic_ids=ids, begin_ms=begin_ms, ends=ends)
        chunks = read_partition(made, window, "clicks", 0, after)
        return [offset for chunk in chunks for offset in chunk.records.offset.tolist()]

    # Those that are not read may as well be unreadable.
    for path in files(made)[:2]:
        path.write_bytes(b"")
    assert offsets(2 * day) == offsets(3 * day - 1) == list(range(3, 10))
    # One that goes on has come to the window, and all that follows is in it.
    assert offsets(2 * day, Cursor(ids["clicks"], 6)) == list(range(6, 10))
    assert [row[3] for row in rows(replay(made, through, start={"clicks": {"0": 3}}))] == list(
        range(3, 9)
    )
    # Of none of the archive's days, it begins in Kafka.
    assert offsets(3 * day) == [9]


def test_events_of_a_topic_that_was_made_anew_are_read_the_oldest_first(made: Settings) -> None:
    rng = random.Random(8)
    sent = []
    ids = []
    for _ in range(3):
        send_raw(
            made,
            "clicks",
            [
                (b"k", json.dumps({k: v for k, v in event.items() if k != "rating"}).encode())
                for event in some_events(rng, 10)
            ],
            partition=0,
        )
        archive(made)
        sent.append([row[4] for row in rows(replay(made, {"clicks": {"0": 10}}))][-10:])
        ids.append(event_topic_ids(made)["clicks"])
        delete_topic(made, "clicks")
        # Gone from Kafka, it is read from the archive.
        assert [row[1] for row in rows(replay(made, {}, topics=("clicks",)))] == [
            each for each in ids for _ in range(10)
        ]
        ensure_topics(made)
    through = end_offsets(made)
    got = rows(replay(made, through))
    assert [row[4] for row in got] == [value for values in sent for value in values]
    assert [row[1] for row in got] == [each for each in ids for _ in range(10)]
    columns = read_columns(made, through)
    assert len(columns) == 30
    assert (np.diff(columns.timestamp) >= 0).all()

    # Whoever gives a start means the topic as it is now.
    assert rows(replay(made, through, start={"clicks": {}})) == []
    # Of an earlier one nothing later is read.
    earlier = replay(made, {"clicks": {"0": 10}}, topic_ids={"clicks": ids[1]})
    assert [row[1] for row in rows(earlier)] == [each for each in ids[:2] for _ in range(10)]


def test_offsets_of_a_topic_that_is_gone_are_an_error(made: Settings) -> None:
    delete_topic(made, "clicks")
    with pytest.raises(HeadraceError, match="The topic clicks is gone"):
        next(replay(made, {"clicks": {"0": 1}}))


@pytest.mark.parametrize(
    "harm", ["cut short", "empty", "a bit flipped", "other offsets", "no Parquet"]
)
def test_a_damaged_file_is_named_with_the_cure(made: Settings, harm: str) -> None:
    # What cannot be compressed would be read with the wrong bit, were there no checksum.
    send_raw(made, "clicks", [(b"k", os.urandom(100)) for _ in range(3_000)], partition=0)
    archive(made)
    send_raw(made, "clicks", values(5), partition=0)
    archive(made)
    path, other = files(made)
    content = path.read_bytes()
    # The values are the longest column by far.
    flipped = content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1])
    harmed = {
        "cut short": content[:-7],
        "empty": b"",
        "a bit flipped": flipped + content[len(flipped) :],
        "other offsets": other.read_bytes(),
        "no Parquet": b"x" * len(content),
    }
    path.write_bytes(harmed[harm])
    told = r"0-3000\.parquet is damaged: .*Restore it.*delete this file.*0-3000\.empty"
    with pytest.raises(HeadraceError, match=told):
        rows(replay(made, end_offsets(made)))
    # The cures do cure. Without the records:
    path.rename(path.with_suffix(".empty"))
    assert len(rows(replay(made, end_offsets(made)))) == 5
    # With those that Kafka still holds:
    path.with_suffix(".empty").unlink()
    other.unlink()
    assert archive(made)["clicks"].records == 3_005
    assert len(rows(replay(made, end_offsets(made)))) == 3_005


@pytest.mark.brokers("embedded")
def test_of_a_file_no_more_is_decoded_than_is_wanted(made: Settings) -> None:
    send_raw(made, "clicks", [(b"k", os.urandom(100)) for _ in range(500)], partition=0)
    archive(made)
    [path] = files(made)
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table, path, row_group_size=100, use_dictionary=False, write_page_checksum=True)
    whole = rows(replay(made, {"clicks": {"0": 500}}))
    # What holds the values from offset 400 on.
    value = pq.read_metadata(path).row_group(4).column(3)
    content = bytearray(path.read_bytes())
    content[value.data_page_offset + value.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    part = rows(replay(made, {"clicks": {"0": 350}}, start={"clicks": {"0": 150}}))
    assert part == whole[150:350]
    with pytest.raises(HeadraceError, match="is damaged"):
        rows(replay(made, {"clicks": {"0": 401}}, start={"clicks": {"0": 150}}))


def test_a_missing_file_is_named_and_nothing_is_passed_over(made: Settings) -> None:
    for _ in range(3):
        send_raw(made, "clicks", values(2), partition=0)
        archive(made)
    files(made)[1].unlink()
    with pytest.raises(HeadraceError, match="lacks offsets 2 to 4"):
        read_columns(made, end_offsets(made))
    with pytest.raises(HeadraceError, match="lacks offsets 2 to 4"):
        archive(made)


@pytest.mark.brokers("apache")
def test_what_kafka_has_dropped_is_still_trained_on(made: Settings) -> None:
    rng = random.Random(9)
    for topic in EVENT_TOPICS:
        send_events(made, topic, some_events(rng, 100))
    archive(made)
    send_events(made, "clicks", some_events(rng, 100))
    through = end_offsets(made)
    before = read_columns(made, through)
    for topic in EVENT_TOPICS:
        drop(made, topic, {0: Archive(Path(made.archive)).incarnations(topic)[0].ends()[0]})
    assert len(read_columns(without_archive(made), through)) < len(before)
    assert same(read_columns(made, through), before)


@pytest.mark.brokers("apache")
def test_what_neither_holds_is_told(made: Settings, caplog: pytest.LogCaptureFixture) -> None:
    send_raw(made, "clicks", values(6), partition=0)
    archive(made)
    send_raw(made, "clicks", values(4), partition=0)
    drop(made, "clicks", {0: 8})
    assert [row[3] for row in rows(replay(made, end_offsets(made)))] == [*range(6), 8, 9]
    assert any("clicks/0: offsets 6 to 8 are no longer in Kafka" in m for m in caplog.messages)
