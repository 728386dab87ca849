"""What a job trains on: all of the log, a part of it by time or by offsets, or a file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka_tools import send_raw

from headrace.errors import HeadraceError, InvalidEvent
from headrace.events import EventColumns
from headrace.log import end_offsets
from headrace.settings import Settings
from headrace.topics import ensure_topics, event_topic_ids
from headrace.training_data import DataFile, DataSchema, kept_name
from headrace.training_requests import TrainingRequest
from headrace.uploads import Uploads
from models.training.job_events import read_events
from models.training.job_messages import Job, Report

NOW = 1_704_060_026.0


def click(number: int) -> bytes:
    event = {"event_id": f"e{number}", "user_id": f"u{number}", "item_id": f"i{number}"}
    return json.dumps({**event, "timestamp": NOW + number}).encode()


def job_of(settings: Settings, **fields: Any) -> Job:
    ids = event_topic_ids(settings)
    return Job(
        model_id="default", version="v", created_at=NOW + 1_000, through=end_offsets(settings),
        topic_ids=ids, request=TrainingRequest(**fields),
    )  # fmt: skip


def users(settings: Settings, job: Job) -> list[int]:
    columns = read_events(settings, job, lambda report: None)
    assert len(columns.user_ids) == len(columns.item_ids) == len(columns)
    return [int(user[1:]) for user in columns.user_ids]


def test_a_part_of_the_log_is_read_by_time_or_by_offsets(settings: Settings) -> None:
    ensure_topics(settings)
    for partition in (0, 1):
        numbers = range(partition, 10, 2)
        send_raw(settings, "clicks", [(b"u", click(number)) for number in numbers], partition)
    assert users(settings, job_of(settings)) == list(range(10))
    assert users(settings, job_of(settings, from_=NOW + 3, to=NOW + 6)) == [3, 4, 5]
    assert users(settings, job_of(settings, from_="2023-12-31T22:00:33Z")) == [7, 8, 9]
    assert users(settings, job_of(settings, from_={"clicks": {"0": 3}})) == [1, 3, 5, 6, 7, 8, 9]
    both = job_of(settings, from_={"clicks": {"1": 4}}, to=NOW + 7)
    assert users(settings, both) == [0, 2, 4, 6]
    assert users(settings, job_of(settings, to=NOW - 1)) == []


CSV = "user,item,when,stars,more\n" + "".join(
    f"u{n},i{n},{(NOW + n) * 1000:.0f},4,x\n" for n in range(9)
)
SCHEMA = DataSchema(
    type="rating", time_unit="ms", leave_out=("*",),
    columns={"user_id": "user", "item_id": "item", "timestamp": "when", "rating": "stars"},
)  # fmt: skip


def kept(settings: Settings, file_name: str, content: bytes, schema: DataSchema) -> DataFile:
    name = kept_name("0" * 32, file_name, schema)
    size, sha256 = Uploads(settings).keep(io.BytesIO(content), name)
    return DataFile(name=name, bytes=size, sha256=sha256, schema=schema)


def read(settings: Settings, data: DataFile, **fields: Any) -> EventColumns:
    job = Job(
        model_id="m", version="v", created_at=NOW + 1_000, data=data,
        request=TrainingRequest(**fields),
    )  # fmt: skip
    told: list[Report] = []
    return read_events(settings, job, told.append)


def test_a_file_of_each_format_is_read_the_same(settings: Settings, tmp_path: Path) -> None:
    ensure_topics(settings)
    rows = [line.split(",") for line in CSV.splitlines()[1:]]
    events = [
        {"type": "rating", "user_id": u, "item_id": i, "timestamp": int(t) / 1000, "rating": 4}
        for u, i, t, _, _ in rows
    ]
    lines = "\n".join(map(json.dumps, events)).encode()
    pq.write_table(pa.Table.from_pylist(events), tmp_path / "e.parquet")
    parquet = (tmp_path / "e.parquet").read_bytes()
    plain = DataSchema()
    found = [
        read(settings, kept(settings, "e.csv", CSV.encode(), SCHEMA)),
        read(settings, kept(settings, "E.JSONL", lines, plain)),
        read(settings, kept(settings, "e.parquet", parquet, plain)),
        read(settings, kept(settings, "e", lines, DataSchema(format="jsonl"))),
    ]
    for columns in found:
        assert columns.user_ids == tuple(f"u{n}" for n in range(9))
        assert columns.timestamp.tolist() == [NOW + n for n in range(9)]
        assert columns.rating.tolist() == [4.0] * 9
        assert columns.through == {}
    part = read(settings, kept(settings, "e.csv", CSV.encode(), SCHEMA), from_=NOW + 7)
    assert part.user_ids == ("u7", "u8")


def test_rows_that_are_no_events_are_passed_over_unless_all_are(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    ensure_topics(settings)
    mixed = kept(settings, "e.csv", (CSV + "u,,5,4,x\n").encode(), SCHEMA)
    assert len(read(settings, mixed)) == 9
    assert "1 rows of the data are no events; the first: item_id: is required" in caplog.text
    items = b'{"type": "item", "item_id": "i"}\n'
    with pytest.raises(HeadraceError, match=r"All 1 rows.*is an item"):
        read(settings, kept(settings, "e.jsonl", items, DataSchema()))
    for schema, words in (
        (DataSchema(columns={"user_id": "who"}), "no column 'who'"),
        (DataSchema(leave_out=("*",)), "schema.type"),
    ):
        with pytest.raises(HeadraceError, match=words):
            read(settings, kept(settings, "e.csv", CSV.encode(), schema))
    every = kept(settings, "e.csv", b"user_id,stars\nu,4\n", DataSchema(type="click"))
    with pytest.raises(HeadraceError, match=r'Column stars: .*schema: {"leave_out": \["stars"\]}'):
        read(settings, every)
    binary = kept(settings, "e.csv", b"PAR1\x96,b\n1,2\n", DataSchema(type="click"))
    with pytest.raises(HeadraceError, match=r"^The file of events: its first line is not text"):
        read(settings, binary)
    with pytest.raises(HeadraceError, match="is gone; send it again"):
        read(settings, DataFile(name="f" * 32 + ".csv", bytes=1, sha256="", schema=SCHEMA))


def test_a_file_is_kept_under_its_tasks_name_alone() -> None:
    plain = DataSchema()
    assert kept_name("a" * 32, "../../../etc/events.CSV.gz", plain) == "a" * 32 + ".csv.gz"
    assert kept_name("a" * 32, "x.dat", DataSchema(format="csv")) == "a" * 32 + ".csv"
    with pytest.raises(InvalidEvent, match=r"schema\.format"):
        kept_name("a" * 32, "passwd", plain)
