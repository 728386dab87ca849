"""The log of events in Kafka: how far it goes, and a window of it as columns."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.erasure_log import read_erasures
from headrace.events import EventColumns
from headrace.replay import replay, unreachable
from headrace.settings import Settings
from headrace.topics import BOOTSTRAP_MS, Topics, event_topic_ids

if TYPE_CHECKING:
    from kafka import KafkaConsumer

Offsets = dict[str, dict[str, int]]
"""By topic (without its prefix) and partition (as text: it is a key in JSON), an offset."""
_HIGH_WATER_S = 5.0
"""Longest wait for what a fetch tells of a partition's end."""


def end_offsets(settings: Settings) -> Offsets:
    """Return how far each partition of the topics of events goes, exclusive. Blocks.

    Raises `HeadraceError` when Kafka cannot be reached.
    """
    with _Consumer(settings) as consumer:
        partitions = _partitions(consumer, settings)
        topics = Topics(settings)
        offsets: Offsets = {}
        for partition, offset in _ends(consumer, partitions).items():
            by_partition = offsets.setdefault(topics.plain(partition.topic), {})
            by_partition[str(partition.partition)] = offset
        return offsets


def read_columns(
    settings: Settings, through: Offsets, progress: Callable[[float], None] = lambda _: None
) -> EventColumns:
    """Return the events of the log up to `through`, each `event_id` once. Blocks.

    Partitions are assigned, so no consumer group is joined or disturbed. What is not an event is
    passed over: the agents have dead-lettered it; so is what came before its user was erased.
    Raises `HeadraceError` when the log ends before `through`, or Kafka goes away.
    """
    # Deferred: what asks for the ends alone, and runs for long, should not hold Arrow.
    from headrace.columns import ColumnBuilder

    erasures = read_erasures(settings)
    topic_ids = event_topic_ids(settings) if erasures else {}
    total = sum(sum(by_partition.values()) for by_partition in through.values())
    builder = ColumnBuilder(np.random.default_rng(), erasures, topic_ids)
    count = 0
    progress(0.0)
    with closing(replay(settings, through)) as batches:
        for topic, records in batches:
            builder.add(topic, records)
            count += len(records)
            progress(count / max(total, 1))
    return builder.build(through)


class _Consumer:
    """A kafka-python consumer without a group, closed on leaving; Kafka's errors made ours."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> KafkaConsumer:
        from kafka import KafkaConsumer

        try:
            self._consumer = KafkaConsumer(
                bootstrap_servers=self._settings.kafka.split(","),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                bootstrap_timeout_ms=BOOTSTRAP_MS,
            )
        except Exception as exc:
            raise unreachable(self._settings, exc) from exc
        return self._consumer

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: Any) -> None:
        from kafka.errors import KafkaError

        self._consumer.close()
        if isinstance(exc, KafkaError):
            raise unreachable(self._settings, exc) from exc


def _partitions(consumer: KafkaConsumer, settings: Settings) -> list[Any]:
    from kafka import TopicPartition

    return [
        TopicPartition(topic, partition)
        for topic in Topics(settings).events
        for partition in sorted(consumer.partitions_for_topic(topic) or ())
    ]


def _ends(consumer: KafkaConsumer, partitions: list[Any]) -> dict[Any, int]:
    """Return how far each partition goes, exclusive.

    Asked for the end of a partition, the embedded broker counts the newest batch as one record;
    what it tells with records that are fetched is right.
    """
    listed: dict[Any, int] = consumer.end_offsets(partitions)
    unsure = {partition for partition, end in listed.items() if end > 0}
    if not unsure:
        return listed
    consumer.assign(sorted(unsure))
    for partition in unsure:
        consumer.seek(partition, listed[partition] - 1)
    ends = dict(listed)
    deadline = time.monotonic() + _HIGH_WATER_S
    while unsure and time.monotonic() < deadline:
        consumer.poll(timeout_ms=100)
        for partition in list(unsure):
            high_water = consumer.highwater(partition)
            if high_water is not None:
                ends[partition] = max(listed[partition], high_water)
                unsure.discard(partition)
    return ends
