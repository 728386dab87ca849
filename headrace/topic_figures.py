"""How far each partition goes, how much of it workers have done, and how fast both move."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from msgspec import Struct
from redis.exceptions import RedisError

from headrace.kafka_clients import client_options
from headrace.kafka_reader import unreachable
from headrace.positions import PositionStore
from headrace.settings import Settings
from headrace.store import connect
from headrace.topics import (
    BOOTSTRAP_MS,
    IMPRESSIONS,
    ITEMS,
    Place,
    TopicId,
    Topics,
    describe_topics,
)

_Number = TypeVar("_Number", int, float)
_NEWEST_S = 5.0
"""Longest wait for the newest records."""

Positions = Mapping[tuple[str, int], int]
"""By topic, as the broker names it, and partition: the offset of the next record to be done."""
Ends = Mapping[tuple[str, int], tuple[int, int]]
"""By the id of a topic and partition: its first offset, and the one after its last, as listed."""


class Extent(Struct, frozen=True):
    """How far a partition goes."""

    begin: int
    end: int
    """Exclusive."""
    newest: float | None
    """The newest record's own time, in Unix seconds; None: there is none, or it was not told."""


class PartitionFigures(Struct, frozen=True):
    """A partition as it stands, and how fast it moves."""

    partition: int
    begin: int
    end: int
    """Exclusive."""
    newest: float | None
    """The newest record's own time, in Unix seconds."""
    position: int | None
    """The offset of the next record that workers will do; None: they have done none, or it is not
    known, or they do not read this topic."""
    lag: int | None
    """Records that workers have still to do."""
    rate_in: float
    """Records that came, per second."""
    rate_out: float | None
    """Records that workers did, per second."""

    @property
    def records(self) -> int:
        """How many records it holds, or held before compaction."""
        return self.end - self.begin


class TopicFigures(Struct, frozen=True):
    """A topic: what it comes to over its partitions, and each one of them."""

    topic: str
    """Without the prefix."""
    name: str
    """As the broker names it."""
    id: str | None
    """None: there is no such topic."""
    partitions: list[PartitionFigures]

    @property
    def records(self) -> int:
        """How many records it holds, or held before compaction."""
        return sum(each.records for each in self.partitions)

    @property
    def newest(self) -> float | None:
        """The newest record's own time, in Unix seconds."""
        return max((each.newest for each in self.partitions if each.newest), default=None)

    @property
    def lag(self) -> int | None:
        """Records that workers have still to do; None: it is not known, or not theirs to do."""
        return _sum(each.lag for each in self.partitions)

    @property
    def rate_in(self) -> float:
        """Records that came, per second."""
        return sum(each.rate_in for each in self.partitions)

    @property
    def rate_out(self) -> float | None:
        """Records that workers did, per second."""
        return _sum(each.rate_out for each in self.partitions)


class Look(Struct, frozen=True):
    """Topics at one moment."""

    at: float
    """Of the monotonic clock, in seconds."""
    known: Mapping[str, TopicId]
    """By name on the broker, those that exist."""
    extents: Mapping[TopicPartition, Extent]
    done: Positions | None
    """None: that is not known."""
    unknown: str
    """Why not, or ""."""


async def positions(settings: Settings) -> dict[Place, int]:
    """Return how far the workers of all models are. Raises `redis.exceptions.RedisError`."""
    redis = connect(settings)
    try:
        found: dict[Place, int] = {}
        for state in settings.states:
            found |= await PositionStore(redis, state).read()
        return found
    finally:
        await redis.aclose()


class TopicsObserver:
    """Observes the topics over a connection of its own; it joins no group and writes nothing."""

    def __init__(self, settings: Settings) -> None:
        """Connect. Raises `HeadraceError` when Kafka cannot be reached."""
        self._settings = settings
        self._topics = Topics(settings)
        self._read_by_workers = {*self._topics.all_kinds, ITEMS, IMPRESSIONS}
        try:
            self._consumer = KafkaConsumer(
                **client_options(settings),
                enable_auto_commit=False,
                bootstrap_timeout_ms=BOOTSTRAP_MS,
            )
        except (KafkaError, OSError, ValueError) as exc:
            raise unreachable(settings, exc) from exc

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def figures(
        self, topics: Sequence[str], *, over_s: float, sleep: Callable[[float], None]
    ) -> tuple[list[TopicFigures], str]:
        """Return the figures of topics, their rates over so many seconds; blocks as long.

        Topics are named without the prefix. Beside them stands why workers' positions are not
        known, or "". Raises `HeadraceError` when Kafka cannot be read.
        """
        first = self.look(topics)
        sleep(over_s)
        last = self.look(topics)
        return self.compare(topics, first, last), last.unknown

    def look(self, topics: Sequence[str]) -> Look:
        """Return how topics stand now. Blocks. Raises `HeadraceError` when Kafka cannot be read."""
        try:
            known, places = self._places(topics)
            extents = read_extents(self._consumer, places)
            done, unknown = self._done(known)
        except (KafkaError, OSError) as exc:
            raise unreachable(self._settings, exc) from exc
        return Look(time.monotonic(), known, extents, done, unknown)

    def ends(self, topics: Sequence[str]) -> Ends:
        """Return where partitions begin and end: something else once they hold something else.

        Blocks. Raises `HeadraceError` when Kafka cannot be read.
        """
        try:
            known, places = self._places(topics)
            begins = self._consumer.beginning_offsets(places) if places else {}
            ends = self._consumer.end_offsets(places) if places else {}
        except (KafkaError, OSError) as exc:
            raise unreachable(self._settings, exc) from exc
        ids = {topic.name: topic.id for topic in known.values()}
        return {(ids[at.topic], at.partition): (begins[at], ends[at]) for at in places}

    def compare(self, topics: Sequence[str], first: Look, last: Look) -> list[TopicFigures]:
        """Return the figures of topics that were looked at twice."""
        return [self._topic(topic, last.known, _Sample.of(first, last)) for topic in topics]

    def _topic(self, topic: str, known: Mapping[str, TopicId], sample: _Sample) -> TopicFigures:
        name = self._topics.name(topic)
        found = known.get(name)
        count = found.partitions if found else 0
        partitions = [
            sample.partition(TopicPartition(name, number), topic in self._read_by_workers)
            for number in range(count)
        ]
        return TopicFigures(topic, name, found.id if found else None, partitions)

    def _places(
        self, topics: Sequence[str]
    ) -> tuple[Mapping[str, TopicId], Sequence[TopicPartition]]:
        """Return the topics that there are, and their partitions."""
        with closing(_admin(self._settings)) as admin:
            known = describe_topics(admin, [self._topics.name(topic) for topic in topics])
        return known, [
            TopicPartition(topic.name, number)
            for topic in known.values()
            for number in range(topic.partitions)
        ]

    def _done(self, known: Mapping[str, TopicId]) -> tuple[Positions | None, str]:
        """Return how far workers are in the topics as they are now, or why that is not known."""
        try:
            found = asyncio.run(positions(self._settings))
        except (RedisError, OSError) as exc:
            return None, f"how far workers are cannot be read: {exc!r}"
        return {
            (name, place.partition): offset
            for place, offset in found.items()
            if (topic := known.get(name := self._topics.name(place.topic))) is not None
            and topic.id == place.topic_id
        }, ""


def read_extents(
    consumer: KafkaConsumer, places: Sequence[TopicPartition]
) -> dict[TopicPartition, Extent]:
    """Return how far partitions go, and the time of the newest record of each.

    Asked for the end of a partition, the embedded broker counts the newest batch as one record;
    what it tells with records that are fetched is right, and it gives a batch from its first record
    on alone. Raises `kafka.errors.KafkaError`.
    """
    if not places:
        return {}
    begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
    newest: dict[TopicPartition, float] = {}
    left = {at for at in places if ends[at] > begins[at]}
    # All of them: of a topic that is not assigned, kafka-python knows no offsets the next time.
    consumer.assign(list(places))
    consumer.pause(*(at for at in places if at not in left))
    for at in left:
        consumer.seek(at, ends[at] - 1)
    deadline = time.monotonic() + _NEWEST_S
    while left and time.monotonic() < deadline:
        for at, records in consumer.poll(timeout_ms=100).items():
            newest[at] = records[-1].timestamp / 1000
            ends[at] = max(ends[at], consumer.highwater(at) or 0)
            if records[-1].offset >= ends[at] - 1:
                left.discard(at)
                consumer.pause(at)
    consumer.resume(*places)
    return {at: Extent(begins[at], ends[at], newest.get(at)) for at in places}


class _Sample(Struct, frozen=True):
    """The same partitions, seen twice."""

    seconds: float
    first: Mapping[TopicPartition, Extent]
    last: Mapping[TopicPartition, Extent]
    done_first: Positions | None
    done_last: Positions | None

    @classmethod
    def of(cls, first: Look, last: Look) -> _Sample:
        """Return what two looks come to; what came up in between has not moved."""
        extents = {at: first.extents.get(at, last.extents[at]) for at in last.extents}
        return cls(last.at - first.at, extents, last.extents, first.done, last.done)

    def partition(self, at: TopicPartition, read: bool) -> PartitionFigures:
        """Return the figures of a partition; `read`: of one that workers read."""
        first, last = self.first[at], self.last[at]
        position = lag = rate_out = None
        if read and self.done_last is not None and self.done_first is not None:
            place = (at.topic, at.partition)
            position = self.done_last.get(place)
            # What has not been begun is done from the beginning on.
            at_last = min(max(position or 0, last.begin), last.end)
            at_first = min(max(self.done_first.get(place, 0), last.begin), at_last)
            lag = last.end - at_last
            rate_out = (at_last - at_first) / self.seconds
        return PartitionFigures(
            partition=at.partition,
            begin=last.begin,
            end=last.end,
            newest=last.newest,
            position=position,
            lag=lag,
            rate_in=max(0, last.end - first.end) / self.seconds,
            rate_out=rate_out,
        )


def _admin(settings: Settings) -> Any:
    return KafkaAdminClient(**client_options(settings), bootstrap_timeout_ms=BOOTSTRAP_MS)


def _sum(values: Iterable[_Number | None]) -> _Number | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
