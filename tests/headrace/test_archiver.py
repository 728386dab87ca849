"""Archiving topics of real brokers: each record once, byte for byte, whatever happens."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from archive_tools import archive, archived_rows, drop, files, send
from kafka_tools import delete_topic, read_topic

from headrace.archive import ASIDE, Archive
from headrace.archiver import Outcome, Plan, archive_held, plan_archive, run_plan
from headrace.errors import HeadraceError
from headrace.settings import Settings
from headrace.topics import ensure_topics, event_topic_ids

pytestmark = pytest.mark.brokers("embedded", "apache")

HOUR = 3_600_000
_TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
NOON = int(_TODAY.timestamp()) * 1_000 - 84 * HOUR
"""Of the fourth day before today, in milliseconds: Apache Kafka drops what is older than a week."""


@pytest.fixture
def made(settings: Settings) -> Settings:
    ensure_topics(settings)
    return settings


def in_kafka(settings: Settings, topic: str) -> list[tuple[Any, ...]]:
    return [
        (each.partition, each.offset, each.timestamp, each.key, each.value, list(each.headers))
        for each in read_topic(settings, topic)
    ]


def test_what_is_new_is_added_byte_for_byte_without_gap_or_overlap(made: Settings) -> None:
    send(made, "clicks", 0, [(None, NOON, b"\xff" * 300_000), (b"", NOON + 1, None)])
    send(made, "clicks", 1, [(b"k", NOON, b""), (b"k", NOON, b"{}")])
    send(made, "ratings", 3, [(b"k", -1 + NOON, b"x")], headers=[("a", b"\x00"), ("b", b"")])
    outcomes = archive(made)
    assert (outcomes["clicks"].records, outcomes["clicks"].files) == (4, 2)
    assert outcomes["ratings"].ends == {0: 0, 1: 0, 2: 0, 3: 1}
    first = {path: path.read_bytes() for path in files(made)}
    assert archive(made)["clicks"].records == 0

    send(made, "clicks", 1, [(b"new", NOON, b"new")] * 7)
    send(made, "purchases", 0, [(b"new", NOON, b"new")])
    outcomes = archive(made)
    assert {topic: each.records for topic, each in outcomes.items()} == {
        "clicks": 7,
        "purchases": 1,
        "ratings": 0,
    }
    assert {path: path.read_bytes() for path in first} == first
    assert len(files(made)) == len(first) + 2
    for topic in ("clicks", "ratings", "purchases"):
        assert archived_rows(made, topic) == in_kafka(made, topic)


def test_any_topic_can_be_archived_with_its_headers(made: Settings) -> None:
    send(made, "dead-letters", 2, [(b"k", NOON, b"no JSON")], headers=[("reason", b"not JSON")])
    assert archive(made, "dead-letters")["dead-letters"].records == 1
    assert archived_rows(made, "dead-letters") == in_kafka(made, "dead-letters")
    assert not Path(made.archive, "clicks").exists()


def test_a_file_holds_one_day_unless_time_runs_backwards(made: Settings) -> None:
    hours = [0, 11, 12, 35, 13, 36, -100, 60]
    send(made, "clicks", 0, [(b"k", NOON + hour * HOUR, b"v") for hour in hours])
    archive(made)
    names = [f"{path.parent.name}/{path.stem}" for path in files(made)]
    days = [(_TODAY - timedelta(days=ago)).date().isoformat() for ago in (4, 3, 2, 1)]
    offsets = ["0-2", "2-5", "5-7", "7-8"]
    assert names == [f"{day}/{range_}" for day, range_ in zip(days, offsets, strict=True)]
    assert archived_rows(made, "clicks") == in_kafka(made, "clicks")


# Apache Kafka refuses times far ahead.
@pytest.mark.brokers("embedded")
def test_times_that_no_calendar_knows_are_kept(made: Settings) -> None:
    times = [0, 2**62, 1]
    send(made, "clicks", 0, [(b"k", time, b"v") for time in times])
    archive(made)
    assert [row[2] for row in archived_rows(made, "clicks")] == times
    assert [path.parent.name for path in files(made)] == ["1970-01-01", "9999-12-31"]


def test_a_file_is_of_bounded_size(made: Settings) -> None:
    send(made, "clicks", 0, [(b"k", NOON, os.urandom(100)) for _ in range(5_000)])
    archive(made, max_records=1_000)
    sizes = [pq.read_metadata(path).num_rows for path in files(made)]
    assert sizes == [1_000] * 5
    assert archived_rows(made, "clicks") == in_kafka(made, "clicks")
    big = [(b"k", NOON, os.urandom(500_000)) for _ in range(30)]
    send(made, "ratings", 0, big)
    archive(made, max_bytes=1)
    assert len([path for path in files(made) if "ratings" in path.parts]) > 1
    assert archived_rows(made, "ratings") == in_kafka(made, "ratings")


def test_more_partitions_than_are_read_together(settings: Settings) -> None:
    topics = msgspec.structs.replace(settings.topics, partitions=11)
    made = msgspec.structs.replace(settings, topics=topics)
    ensure_topics(made)
    for partition in range(11):
        send(made, "clicks", partition, [(b"k", NOON, b"v")] * partition)
        send(made, "ratings", partition, [(b"k", NOON, b"v")])
    outcomes = archive(made)
    assert outcomes["clicks"].ends == {partition: partition for partition in range(11)}
    assert outcomes["ratings"].ends == dict.fromkeys(range(11), 1)


def test_what_a_killed_run_left_aside_is_removed(made: Settings) -> None:
    send(made, "clicks", 0, [(b"k", NOON, b"v")])
    aside = Path(made.archive) / ASIDE
    aside.mkdir(parents=True)
    (aside / "7-1").write_bytes(b"half a file")
    archive(made)
    assert list(aside.iterdir()) == []
    assert archived_rows(made, "clicks") == in_kafka(made, "clicks")


def test_a_second_archiver_is_refused_and_the_first_is_named(made: Settings) -> None:
    root = Path(made.archive)
    refused = rf"archive is being written by process {os.getpid()}"
    with archive_held(root), pytest.raises(HeadraceError, match=refused), archive_held(root):
        pass
    with archive_held(root):
        pass


def test_a_topic_made_anew_is_archived_beside_the_one_before(made: Settings) -> None:
    send(made, "clicks", 0, [(b"k", NOON, b"first")] * 3)
    archive(made)
    delete_topic(made, "clicks")
    ensure_topics(made)
    send(made, "clicks", 0, [(b"k", NOON, b"second")] * 2)
    assert archive(made)["clicks"].records == 2
    first, second = Archive(Path(made.archive)).incarnations("clicks")
    assert second.topic_id == event_topic_ids(made)["clicks"] != first.topic_id
    assert (first.ends()[0], second.ends()[0]) == (3, 2)


def test_a_topic_made_anew_while_it_is_read_is_not_taken_for_the_one_before(
    made: Settings,
) -> None:
    send(made, "clicks", 0, [(b"k", NOON, b"first")] * 3)
    plan = plan_archive(made, ("clicks",))
    delete_topic(made, "clicks")
    ensure_topics(made)
    send(made, "clicks", 0, [(b"k", NOON, b"second")] * 3)
    with pytest.raises(HeadraceError, match="clicks was made anew while it was read"):
        run_plan(made, plan)
    assert files(made) == []
    assert archive(made)["clicks"].records == 3


def test_a_log_that_ends_before_the_archive_is_told_and_not_archived(made: Settings) -> None:
    send(made, "clicks", 0, [(b"k", NOON, b"v")] * 3)
    folder = (
        Archive(Path(made.archive)).incarnation("clicks", event_topic_ids(made)["clicks"]).folder
    )
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "0-5.empty").touch()
    plan = plan_archive(made, ("clicks",))
    (warning,) = plan.warnings
    assert "clicks/0: the archive holds offsets up to 5, Kafka only up to 3" in warning
    assert plan.tasks == []


def test_a_missing_topic_is_no_error(settings: Settings) -> None:
    assert archive(settings)["clicks"].ends == {}


def test_a_kafka_that_is_away_is_named(settings: Settings) -> None:
    away = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    with pytest.raises(HeadraceError, match=r"127\.0\.0\.1:9 .*HEADRACE_KAFKA"):
        plan_archive(away, ("clicks",))


def test_an_archive_that_cannot_be_written_is_named(made: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = r"cannot be written: .*HEADRACE_ARCHIVE"
    with pytest.raises(HeadraceError, match=refused), archive_held(tmp_path / "file"):
        pass


@pytest.mark.brokers("apache")
def test_what_retention_dropped_is_told_and_the_rest_archived(made: Settings) -> None:
    send(made, "clicks", 0, [(b"k", NOON, b"%d" % number) for number in range(10)])
    send(made, "clicks", 1, [(b"k", NOON, b"v")] * 4)
    drop(made, "clicks", {0: 4})
    plan = plan_archive(made, ("clicks",))
    assert plan.warnings == [
        "clicks/0: Kafka dropped 4 offsets (0 to 4) before the archive began; "
        "archive more often than its retention."
    ]
    run(made, plan)
    send(made, "clicks", 0, [(b"k", NOON, b"later")] * 5)
    drop(made, "clicks", {0: 12, 1: 4})
    # Of partition 1 nothing is lost: all of it was archived.
    plan = plan_archive(made, ("clicks",))
    (warning,) = plan.warnings
    assert "clicks/0: Kafka dropped 2 offsets (10 to 12) before they were archived" in warning
    run(made, plan)
    # Partition 2 loses all it has before anything of it is archived.
    send(made, "clicks", 2, [(b"k", NOON, b"v")] * 3)
    drop(made, "clicks", {2: 3})
    run(made, plan_archive(made, ("clicks",)))
    level = {"clicks": Outcome(ends={0: 15, 1: 4, 2: 3, 3: 0})}
    assert plan_archive(made, ("clicks",)) == Plan(tasks=[], outcomes=level, warnings=[])
    offsets = [(row[0], row[1]) for row in archived_rows(made, "clicks")]
    assert offsets == [(0, n) for n in (*range(4, 10), *range(12, 15))] + [(1, n) for n in range(4)]
    incarnation = Archive(Path(made.archive)).incarnations("clicks")[0]
    names = [each.path.name for each in incarnation.segments()[0]]
    assert names == ["4-10.parquet", "10-12.empty", "12-15.parquet"]


@pytest.mark.brokers("apache")
def test_what_is_dropped_just_as_it_is_read_leaves_no_silent_gap(made: Settings) -> None:
    send(made, "clicks", 0, [(b"k", NOON, b"v")] * 10)
    plan = plan_archive(made, ("clicks",))
    drop(made, "clicks", {0: 4})
    with pytest.raises(HeadraceError, match="has dropped records just as they were to be read"):
        run(made, plan)
    assert files(made) == []


def run(settings: Settings, plan: Plan) -> None:
    with archive_held(Path(settings.archive)):
        run_plan(settings, plan)
