"""The log of events: how far it goes in Kafka, and all of it, archive and Kafka, as columns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.erasure_log import read_erasures
from headrace.events import EventColumns
from headrace.kafka_clients import client_options
from headrace.kafka_reader import unreachable
from headrace.replay import plan_replay, run_replay
from headrace.settings import Settings
from headrace.topics import BOOTSTRAP_MS, Topics

if TYPE_CHECKING:
    from kafka import KafkaConsumer

Offsets = dict[str, dict[str, int]]
"""By topic (without its prefix) and partition (as text: it is a key in JSON), an offset."""
_HIGH_WATER_S = 10.0
"""Longest wait for what a fetch tells of a partition's end."""


def end_offsets(settings: Settings, topics: Sequence[str] | None = None) -> Offsets:
    """Return how far each partition of these topics goes, exclusive. Blocks.

    By default those of the model's events. Raises `HeadraceError` when Kafka cannot be reached.
    """
    spans = log_spans(settings, tuple(Topics(settings).kinds) if topics is None else topics)
    return {
        topic: {str(partition): span.stop for partition, span in by_partition.items()}
        for topic, by_partition in spans.items()
    }


def offsets_at(settings: Settings, topics: Sequence[str], time_ms: int) -> Offsets:
    """Return of each partition the offset of the first record that is not older. Blocks.

    `time_ms` are Unix milliseconds of a record's own time. A partition without such a record has no
    offset, nor has one whose first record in Kafka it is: one that Kafka has dropped may not have
    been older either. The embedded broker looks nothing up by time, so none of its has. Raises
    `HeadraceError` when Kafka cannot be reached.
    """
    with _Consumer(settings) as consumer:
        names = Topics(settings)
        partitions = _partitions(consumer, [names.name(topic) for topic in topics])
        if not partitions:
            return {}
        found = consumer.offsets_for_times(dict.fromkeys(partitions, time_ms))
        # Afterwards: what was found behind what Kafka drops in between counts for nothing.
        beginnings = consumer.beginning_offsets(partitions)
        offsets: Offsets = {}
        for partition, at in found.items():
            if at is not None and at.offset > beginnings[partition]:
                by_partition = offsets.setdefault(names.plain(partition.topic), {})
                by_partition[str(partition.partition)] = at.offset
        return offsets


def log_spans(settings: Settings, topics: Sequence[str]) -> dict[str, dict[int, range]]:
    """Return by topic and partition which offsets Kafka holds. Blocks.

    A topic that there is not is left out. Raises `HeadraceError` when Kafka cannot be reached.
    """
    with _Consumer(settings) as consumer:
        names = Topics(settings)
        partitions = _partitions(consumer, [names.name(topic) for topic in topics])
        beginnings = consumer.beginning_offsets(partitions) if partitions else {}
        spans: dict[str, dict[int, range]] = {}
        for partition, end in ends(consumer, partitions).items():
            by_partition = spans.setdefault(names.plain(partition.topic), {})
            by_partition[partition.partition] = range(min(beginnings[partition], end), end)
        return spans


def read_columns(
    settings: Settings,
    through: Offsets,
    progress: Callable[[float], None] = lambda _: None,
    *,
    topics: Sequence[str] | None = None,
    start: Offsets | None = None,
    topic_ids: Mapping[str, str] | None = None,
    begin: float | None = None,
    end: float | None = None,
) -> EventColumns:
    """Return the events of the log up to `through`, each `event_id` once. Blocks.

    `topics` are those to read, by default those of the model's events.
    `start` are offsets to begin at, inclusive; of a topic that stands there nothing is read from
    before it was made anew. Events before `begin` and from `end` on, Unix seconds, are left out.

    The log is the archive and, from where that ends, Kafka: see `headrace.replay`. What is not an
    event is passed over: the agents have dead-lettered it; so is what came before its user was
    erased. Raises `HeadraceError` when the log ends before `through`, Kafka goes away, or a file of
    the archive is damaged.
    """
    # Deferred: what asks for the ends alone, and runs for long, should not hold Arrow.
    from headrace.columns import ColumnBuilder

    names = Topics(settings)
    topics = tuple(names.kinds) if topics is None else topics
    plan = plan_replay(settings, through, start=start, topics=topics, topic_ids=topic_ids)
    builder = ColumnBuilder(np.random.default_rng(), read_erasures(settings), names.all_kinds)
    count = 0
    progress(0.0)
    with closing(run_replay(settings, plan)) as batches:
        for batch in batches:
            builder.add(batch)
            count += len(batch.records)
            progress(count / max(plan.offsets, 1))
    return builder.build(through, begin=begin, end=end)


class _Consumer:
    """A kafka-python consumer without a group, closed on leaving; Kafka's errors made ours."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> KafkaConsumer:
        from kafka import KafkaConsumer

        try:
            self._consumer = KafkaConsumer(
                **client_options(self._settings),
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


def _partitions(consumer: KafkaConsumer, names: Sequence[str]) -> list[Any]:
    from kafka import TopicPartition

    return [
        TopicPartition(topic, partition)
        for topic in names
        for partition in sorted(consumer.partitions_for_topic(topic) or ())
    ]


def ends(
    consumer: KafkaConsumer, partitions: list[Any], patience_s: float = _HIGH_WATER_S
) -> dict[Any, int]:
    """Return how far each partition goes, exclusive.

    Asked for the end of a partition, the embedded broker counts the newest batch as one record;
    what it tells with records that are fetched is right. Raises `kafka.errors.KafkaTimeoutError`
    when a partition's is not told in time: an erasure, or a training, would end too early.
    """
    from kafka.errors import KafkaTimeoutError

    listed: dict[Any, int] = consumer.end_offsets(partitions) if partitions else {}
    unsure = {partition for partition, end in listed.items() if end > 0}
    if not unsure:
        return listed
    consumer.assign(sorted(unsure))
    for partition in unsure:
        consumer.seek(partition, listed[partition] - 1)
    found = dict(listed)
    deadline = time.monotonic() + patience_s
    while unsure:
        if time.monotonic() >= deadline:
            names = ", ".join(f"{each.topic}/{each.partition}" for each in sorted(unsure))
            raise KafkaTimeoutError(f"it has not told in {patience_s:.0f} s how far {names} goes")
        consumer.poll(timeout_ms=100)
        for partition in list(unsure):
            high_water = consumer.highwater(partition)
            if high_water is not None:
                found[partition] = max(listed[partition], high_water)
                unsure.discard(partition)
    return found
