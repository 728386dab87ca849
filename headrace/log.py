"""The log of events in Kafka: how far it goes, and a window of it as columns."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.errors import HeadraceError, InvalidEvent
from headrace.events import KINDS, EventColumns, parse_event
from headrace.settings import Settings
from headrace.topics import BOOTSTRAP_MS, EVENT_TOPICS, Topics

if TYPE_CHECKING:
    from kafka import KafkaConsumer

Offsets = dict[str, dict[str, int]]
"""By topic (without its prefix) and partition (as text: it is a key in JSON), an offset."""
_STALLED_S = 60.0
"""Without a record for so long, the broker is taken to be away."""
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
    passed over: the agents have dead-lettered it. Raises `HeadraceError` when the log ends before
    `through`, or Kafka goes away.
    """
    total = sum(sum(by_partition.values()) for by_partition in through.values())
    columns = _ColumnBuilder(through)
    with _Consumer(settings) as consumer:
        for count, record in enumerate(_records(consumer, settings, through)):
            columns.add(record, Topics(settings).plain(record.topic))
            if count % 1_000 == 0:
                progress(count / max(total, 1))
    return columns.build()


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
            raise self._unreachable(exc) from exc
        return self._consumer

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: Any) -> None:
        from kafka.errors import KafkaError

        self._consumer.close()
        if isinstance(exc, KafkaError):
            raise self._unreachable(exc) from exc

    def _unreachable(self, exc: BaseException) -> HeadraceError:
        return HeadraceError(
            f"Kafka at {self._settings.kafka} cannot be read: {exc!r}. "
            "Is it running, and is HEADRACE_KAFKA right?"
        )


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


def _records(consumer: KafkaConsumer, settings: Settings, through: Offsets) -> Iterator[Any]:
    topics = Topics(settings)
    ends = {
        partition: through.get(topics.plain(partition.topic), {}).get(str(partition.partition), 0)
        for partition in _partitions(consumer, settings)
    }
    beginnings = consumer.beginning_offsets(list(ends))
    left = {partition for partition, end in ends.items() if end > beginnings[partition]}
    if not left:
        return
    consumer.assign(sorted(left))
    consumer.seek_to_beginning()
    heard_at = time.monotonic()
    while left:
        polled = consumer.poll(timeout_ms=500, max_records=5_000)
        for partition, records in polled.items():
            yield from (record for record in records if record.offset < ends[partition])
        if polled:
            heard_at = time.monotonic()
        elif time.monotonic() - heard_at > _STALLED_S:
            raise HeadraceError(
                f"Kafka at {settings.kafka} has sent nothing for {_STALLED_S:.0f} s; "
                f"{len(left)} partitions are not read to their end. Is the broker well?"
            )
        done = {partition for partition in left if consumer.position(partition) >= ends[partition]}
        if done:
            left -= done
            consumer.assign(sorted(left))


class _ColumnBuilder:
    """Gathers events as arrays of numbers, not as objects."""

    def __init__(self, through: Mapping[str, Mapping[str, int]]) -> None:
        self._through = {topic: dict(offsets) for topic, offsets in through.items()}
        self._user, self._item = array("i"), array("i")
        self._timestamp, self._rating = array("d"), array("f")
        self._kind, self._topic = array("b"), array("b")
        self._partition, self._offset = array("i"), array("q")
        self._users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._event = array("i")
        self._event_ids: dict[str, int] = {}

    def add(self, record: Any, topic: str) -> None:
        """Add a record of kafka-python's, unless it is no event."""
        try:
            event = parse_event(
                record.value, EVENT_TOPICS[topic], received_at=record.timestamp / 1000
            )
        except InvalidEvent:
            return
        self._event.append(self._event_ids.setdefault(event.event_id, len(self._event_ids)))
        rating = getattr(event, "rating", None)
        self._user.append(self._users.setdefault(event.user_id, len(self._users)))
        self._item.append(self._items.setdefault(event.item_id, len(self._items)))
        self._timestamp.append(event.timestamp)
        self._rating.append(float("nan") if rating is None else rating)
        self._kind.append(KINDS.index(event.kind))
        self._topic.append(list(EVENT_TOPICS).index(topic))
        self._partition.append(record.partition)
        self._offset.append(record.offset)

    def build(self) -> EventColumns:
        """Return the columns, sorted by (timestamp, topic, partition, offset).

        Of an event that was sent more than once the first in this order stays, so that the same
        log makes the same columns in whatever order its partitions arrived.
        """
        timestamp = np.frombuffer(self._timestamp, dtype=np.float64)
        order = np.lexsort(
            (
                np.frombuffer(self._offset, dtype=np.int64),
                np.frombuffer(self._partition, dtype=np.int32),
                np.frombuffer(self._topic, dtype=np.int8),
                timestamp,
            )
        )
        _, first = np.unique(np.frombuffer(self._event, dtype=np.int32)[order], return_index=True)
        order = order[np.sort(first)]
        user, user_ids = _recode(np.frombuffer(self._user, dtype=np.int32)[order], self._users)
        item, item_ids = _recode(np.frombuffer(self._item, dtype=np.int32)[order], self._items)
        return EventColumns(
            user=user,
            item=item,
            timestamp=timestamp[order],
            kind=np.frombuffer(self._kind, dtype=np.int8)[order],
            rating=np.frombuffer(self._rating, dtype=np.float32)[order],
            user_ids=user_ids,
            item_ids=item_ids,
            through=self._through,
        )


def _recode(codes: Any, known: Mapping[str, int]) -> tuple[Any, tuple[str, ...]]:
    """Number ids by their first place in the sorted log, whatever order partitions arrived in."""
    ids = list(known)
    present, first = np.unique(codes, return_index=True)
    ordered = present[np.argsort(first)]
    recoded = np.empty(len(ids), dtype=np.int32)
    recoded[ordered] = np.arange(len(ordered), dtype=np.int32)
    return recoded[codes], tuple(ids[code] for code in ordered)
