"""Replaying the log of events: what is archived and, from where that ends, what Kafka holds."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import TopicPartition

from headrace.archive import Archive, Incarnation, Segment
from headrace.errors import HeadraceError
from headrace.kafka_reader import Polled, read_spans
from headrace.records import Batch, Records
from headrace.settings import Settings
from headrace.topics import Topics, topic_ids

Offsets = Mapping[str, Mapping[str, int]]
"""By topic, without its prefix, and partition, an offset."""


@dataclass(frozen=True)
class Archived:
    """A file of the archive, and which offsets of it are wanted."""

    incarnation: Incarnation
    segment: Segment
    wanted: range


@dataclass(frozen=True)
class ReplayPlan:
    """Where each offset of the log is read from."""

    archived: Sequence[Archived]
    live: Mapping[str, Mapping[int, range]]
    """Offsets by topic and partition that only Kafka holds."""
    topic_ids: Mapping[str, str]
    """Of the topics in `live`."""

    @property
    def offsets(self) -> int:
        """How many offsets there are; of some the log may hold no record."""
        live = (len(span) for spans in self.live.values() for span in spans.values())
        return sum(len(each.wanted) for each in self.archived) + sum(live)


def replay(
    settings: Settings,
    through: Offsets,
    *,
    start: Offsets | None = None,
    topics: Sequence[str] | None = None,
    topic_ids: Mapping[str, str] | None = None,
    patience_s: float = 60.0,
) -> Generator[Batch, None, None]:
    """Yield the records of the log, each once, until all were yielded; see `plan_replay`.

    What the archive holds comes first, and of that topics that were made anew since, the oldest
    first; then Kafka's. Records of a partition come in order.

    Blocks; close it when it is left before its end. Raises `HeadraceError` when Kafka cannot be
    reached, or no record came for `patience_s`: it went away, or the log ends before `through`;
    and when a file of the archive is damaged or missing.
    """
    plan = plan_replay(settings, through, start=start, topics=topics, topic_ids=topic_ids)
    yield from run_replay(settings, plan, patience_s=patience_s)


def plan_replay(
    settings: Settings,
    through: Offsets,
    *,
    start: Offsets | None = None,
    topics: Sequence[str] | None = None,
    topic_ids: Mapping[str, str] | None = None,
) -> ReplayPlan:
    """Return from where to read the log of some topics, by default those of `through`. Blocks.

    `through` gives by topic and partition the offset to end at, exclusive. These are offsets of the
    topics as they are now, whose ids are `topic_ids`, or else Kafka is asked for them. What is
    archived of the same topics from before they were made anew is read, too, all of it.

    `start` gives the offset to begin at, inclusive; a partition that does not stand in it is read
    from its beginning. Of a topic that stands in it nothing from before it was made anew is read.

    Raises `HeadraceError` when Kafka cannot be reached, or a file of the archive is missing.
    """
    topics = tuple(through) if topics is None else topics
    start = {} if start is None else start
    ids = _ids(settings, topics) if topic_ids is None else topic_ids
    archive = Archive(Path(settings.archive))
    archived: list[Archived] = []
    live: dict[str, dict[int, range]] = {}
    for topic in topics:
        if topic not in start:
            archived += _before(archive, topic, ids.get(topic))
        if topic not in ids:
            _check_absent(topic, through)
            continue
        now = archive.incarnation(topic, ids[topic])
        segments = now.segments()
        live[topic] = {}
        for partition, end in through.get(topic, {}).items():
            wanted = range(start.get(topic, {}).get(partition, 0), end)
            of_partition = segments.get(int(partition), [])
            archived += _wanted(now, of_partition, wanted)
            archived_end = of_partition[-1].offsets.stop if of_partition else 0
            if rest := range(max(archived_end, wanted.start), end):
                live[topic][int(partition)] = rest
    return ReplayPlan(archived, live, {topic: ids[topic] for topic in live})


def run_replay(
    settings: Settings, plan: ReplayPlan, *, patience_s: float = 60.0
) -> Generator[Batch, None, None]:
    """Yield the records of the plan; see `replay`."""
    if plan.archived:
        yield from _read_archived(plan.archived)
    names = Topics(settings)
    spans = {
        TopicPartition(names.name(topic), partition): span
        for topic, by_partition in plan.live.items()
        for partition, span in by_partition.items()
    }
    with closing(read_spans(settings, spans, patience_s=patience_s)) as batches:
        for polled in batches:
            for name in {partition.topic for partition in polled}:
                topic = names.plain(name)
                yield Batch(topic, plan.topic_ids[topic], _records(name, polled))


def _ids(settings: Settings, topics: Sequence[str]) -> Mapping[str, str]:
    return topic_ids(settings, topics) if topics else {}


def _check_absent(topic: str, through: Offsets) -> None:
    """Raise `HeadraceError` when offsets are wanted of a topic that there is not."""
    if any(through.get(topic, {}).values()):
        raise HeadraceError(f"The topic {topic} is gone, or is just made anew; read again.")


def _before(archive: Archive, topic: str, topic_id: str | None) -> Iterator[Archived]:
    """Yield what is archived of the topic from before it was made anew with this id."""
    for incarnation in archive.incarnations(topic):
        if incarnation.topic_id == topic_id:
            return
        for segments in incarnation.segments().values():
            for segment in segments:
                yield Archived(incarnation, segment, segment.offsets)


def _wanted(
    incarnation: Incarnation, segments: Sequence[Segment], wanted: range
) -> Iterator[Archived]:
    for segment in segments:
        offsets = segment.offsets
        both = range(max(offsets.start, wanted.start), min(offsets.stop, wanted.stop))
        if both:
            yield Archived(incarnation, segment, both)


def _read_archived(archived: Sequence[Archived]) -> Iterator[Batch]:
    # Deferred: only what reads an archive holds Arrow.
    from headrace.archive_files import read_segment

    for each in archived:
        of = each.incarnation
        for records in read_segment(each.segment, each.wanted):
            yield Batch(of.topic, of.topic_id, records)


def _records(name: str, polled: Polled) -> Records:
    """Return what was polled of the topic of this name."""
    records: list[Any] = [
        record for partition, some in polled.items() if partition.topic == name for record in some
    ]
    count = len(records)
    return Records(
        values=[record.value for record in records],
        partition=np.fromiter((record.partition for record in records), np.int32, count),
        offset=np.fromiter((record.offset for record in records), np.int64, count),
        time=np.fromiter((record.timestamp for record in records), np.int64, count),
    )
