"""Filling topics, archiving them, and reading what came of it with nothing but pyarrow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka_tools import sender

from headrace.archiver import Outcome, archive_held, plan_archive, run_plan
from headrace.settings import Settings
from headrace.topics import EVENT_TOPICS, Topics

_PATIENCE_S = 30.0


def send(
    settings: Settings,
    topic: str,
    partition: int,
    rows: Sequence[tuple[bytes | None, int, bytes | None]],
    headers: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Send records of these keys, times in milliseconds, and values."""
    name = Topics(settings).name(topic)
    with sender(settings) as producer:
        pending = [
            producer.send(name, value, key, list(headers), partition, time_ms)
            for key, time_ms, value in rows
        ]
        for each in pending:
            each.get(_PATIENCE_S)


def drop(settings: Settings, topic: str, before: dict[int, int]) -> None:
    """Have Kafka drop the records before these offsets, by partition, as its retention does."""
    name = Topics(settings).name(topic)
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        admin.delete_records(
            {TopicPartition(name, partition): offset for partition, offset in before.items()}
        )
    finally:
        admin.close()


def archive(settings: Settings, *topics: str, **bounds: int) -> Mapping[str, Outcome]:
    """Archive these topics, or those of events, once; nothing is to be warned of."""
    with archive_held(Path(settings.archive)):
        plan = plan_archive(settings, topics or tuple(EVENT_TOPICS))
        assert not plan.warnings
        return run_plan(settings, plan, **bounds)


def files(settings: Settings) -> list[Path]:
    """All Parquet files of the archive, by topic, partition and offset."""
    found = Path(settings.archive).glob("*/*/*/*/*.parquet")
    return sorted(found, key=lambda path: (path.parts[-5:-2], int(path.stem.split("-")[0])))


def archived_rows(settings: Settings, topic: str) -> list[tuple[Any, ...]]:
    """Rows of (partition, offset, time, key, value, headers), and each file as its name says."""
    rows = []
    for path in files(settings):
        if path.parts[-5] != topic:
            continue
        first, end = map(int, re.findall(r"\d+", path.stem))
        table = pq.read_table(path, partitioning=None)
        assert table.schema.field("time").type == pa.timestamp("ms", tz="UTC")
        times = table["time"].cast(pa.int64()).to_pylist()
        for time, row in zip(times, table.drop(["time"]).to_pylist(), strict=True):
            assert first <= row["offset"] < end
            headers = [(each["name"], each["value"]) for each in row["headers"] or ()]
            partition = int(path.parts[-3])
            rows.append((partition, row["offset"], time, row["key"], row["value"], headers))
    return rows
