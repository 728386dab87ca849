"""What is replayed: which topics, and from where to where."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import dropwhile

from msgspec import Struct

from headrace.errors import HeadraceError
from headrace.records import Records
from headrace.replay import ReplayPlan, plan_replay, run_replay
from headrace.settings import Settings
from headrace.topics import Place, Topics

BEGINNING, NOW = "beginning", "now"


class Window(Struct, frozen=True, kw_only=True):
    """A window of the log: of each partition, what lies between two offsets.

    It begins at a partition's first record that is not older than `begin_ms`, and ends before the
    first one from there on that is not older than `end_ms`, at `ends` at the latest.
    """

    topics: tuple[str, ...]
    """Without the prefix, sorted."""
    begin_ms: int | None = None
    """Unix milliseconds of a record's own time; None: from the beginning."""
    end_ms: int | None = None
    """Likewise; None: up to `ends`."""
    topic_ids: Mapping[str, str]
    begins: Mapping[str, Mapping[str, int]] = {}
    """By topic and partition the offset that `begin_ms` comes to in Kafka, where that is known."""
    ends: Mapping[str, Mapping[str, int]]
    """By topic and partition an offset, exclusive."""
    has_earlier: bool = True
    """Whether what was archived of the topics from before they were made anew is in it."""
    lost: Mapping[str, int] = {}
    """By partition (`clicks/0`), how many offsets at its beginning nobody holds any more."""

    @property
    def partitions(self) -> list[int]:
        """All partition numbers."""
        return sorted({int(number) for ends in self.ends.values() for number in ends})

    @property
    def places(self) -> dict[Place, int]:
        """By place, the offset to end at, exclusive."""
        return {
            Place(topic, self.topic_ids[topic], int(partition)): end
            for topic, ends in self.ends.items()
            for partition, end in ends.items()
        }


class Cursor(Struct, frozen=True):
    """How far a topic's partition has been replayed."""

    topic_id: str
    offset: int
    """Of the next record."""


@dataclass(frozen=True)
class Chunk:
    """Some records of one partition of a topic, in the log's order."""

    topic_id: str
    records: Records


def read_partition(
    settings: Settings, window: Window, topic: str, number: int, after: Cursor | None = None
) -> Generator[Chunk, None, None]:
    """Yield the records of a topic's partition up to the window's end.

    They begin where the log does, or no later than the window, or than `after`, up to which they
    have been replayed. Blocks. Raises `HeadraceError` when Kafka cannot be read.
    """
    partition = str(number)
    begin = 0
    if after is not None and after.topic_id == window.topic_ids[topic]:
        begin = after.offset
    plan = plan_replay(
        settings,
        {topic: {partition: window.ends.get(topic, {}).get(partition, 0)}},
        # Of a topic that has a beginning nothing is read from before it was made anew.
        start={topic: {partition: begin}} if begin or not window.has_earlier else None,
        topic_ids=window.topic_ids,
    )
    # Of what was archived before the topic was made anew the plan has all partitions.
    of_number = [each for each in plan.archived if each.segment.partition == number]
    plan = replace(plan, archived=of_number)
    if after is None and window.begin_ms is not None:
        found = window.begins.get(topic, {}).get(partition, 0)
        plan = _from_the_window_on(plan, window.begin_ms, {topic: {number: found}})
    with closing(run_replay(settings, plan)) as batches:
        for batch in batches:
            yield Chunk(batch.topic_id, batch.records)


def _from_the_window_on(
    plan: ReplayPlan, begin_ms: int, begins: Mapping[str, Mapping[int, int]]
) -> ReplayPlan:
    """Return the plan without what is known to be older than `begin_ms` before it is read.

    `begins` are where Kafka's records begin that are not. They say nothing of what is archived:
    that may be what Kafka has dropped.
    """
    archived = list(dropwhile(lambda each: each.segment.is_before(begin_ms), plan.archived))
    if archived:
        return replace(plan, archived=archived)
    live = {
        topic: {
            number: range(max(span.start, begins[topic][number]), span.stop)
            for number, span in spans.items()
        }
        for topic, spans in plan.live.items()
    }
    return replace(plan, archived=archived, live=live)


def check_topics(names: str | None, known: Topics) -> tuple[str, ...]:
    """Return the model's topics that a list with commas names, by default all, sorted.

    Raises `HeadraceError` for one without the model's events.
    """
    if names is None:
        return tuple(sorted(known.kinds))
    topics = tuple(sorted({name.strip() for name in names.split(",") if name.strip()}))
    unknown = [name for name in topics if name not in known.kinds]
    if unknown or not topics:
        raise HeadraceError(
            f"--topics {names}: {', '.join(unknown) or 'nothing'} is no topic of the "
            f"model's events; there are {', '.join(known.kinds)}."
        )
    return topics


def parse_time(given: str, option: str, edge: str) -> int | None:
    """Return Unix milliseconds of an ISO time, which is local unless it has an offset.

    None for `edge`, where the log begins or ends. Raises `HeadraceError` for what is no time.
    """
    if given == edge:
        return None
    try:
        # Python 3.10 does not know the Z of UTC.
        moment = datetime.fromisoformat(given.replace("Z", "+00:00"))
        # Nothing is older; to Kafka times below 0 mean something else.
        return max(0, round(moment.timestamp() * 1000))
    except (ValueError, OverflowError) as exc:
        raise HeadraceError(
            f"{option} {given} is no time; write 2026-11-01T00:00, which is local, "
            f"2026-11-01T00:00+00:00, or {edge}."
        ) from exc


def check_order(begin_ms: int | None, end_ms: int | None) -> None:
    """Raise `HeadraceError` for a window that ends before it begins."""
    if begin_ms is not None and end_ms is not None and end_ms <= begin_ms:
        raise HeadraceError("--to is not after --from; there is no event between them.")
