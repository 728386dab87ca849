"""Topics and their partitions: how much there is, how fast it moves, how far workers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from console import formats
from console.visit import Visit
from console.widgets.html import box, text
from console.widgets.parts import Field
from console.widgets.shared import Panel
from console.widgets.table import At, Cell, LiveTable
from headrace_client import HeadraceError
from headrace_client.types import TopicInfo, TopicList

_LOOK_S = 3.0
_NOT_READ = "not read by workers"


class TopicTables:
    """A table of the topics, and one of the partitions of one of them."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._topic = ""
        self._found: TopicList | None = None
        self._topics = Panel(visit, "Topics")
        with self._topics.tools:
            self._over = text("", "muted")
        self._topics.body.clear()
        with self._topics.body:
            self._unknown = text("Loading …", "muted", tag="p")
            self._table = LiveTable(
                "Topics",
                ("Topic", "Partitions", "Records", "Newest", "Lag", "In", "Out"),
            )
        self._partitions = Panel(visit, "Partitions")
        with self._partitions.tools:
            self._choice = Field("Topic", kind="select", on_change=self._choose)
            self._choice.set_visibility(False)
        self._partitions.body.clear()
        with self._partitions.body, box():
            self._of_partition = LiveTable(
                "Partitions",
                ("Partition", "First", "End", "Position", "Newest", "Lag", "In", "Out"),
            )
        visit.every(_LOOK_S, self._look)

    async def _look(self) -> None:
        try:
            found = await self._visit.api.topics()
        except HeadraceError as error:
            self._topics.tell(self._visit.trouble(error))
            return
        self._topics.tell(None)
        self._draw(found)

    def _draw(self, found: TopicList) -> None:
        self._found = found
        names = [each.topic for each in found.topics]
        if not self._topic and names:
            self._topic = max(found.topics, key=lambda each: each.records).topic
            self._choice.set_options({name: name for name in names})
            self._choice.set(self._topic)
            self._choice.set_visibility(True)
        self._over.set_text(f"Rates over the last {found.over_s:.0f} s")
        self._unknown.set_text(found.unknown)
        self._unknown.set_visibility(bool(found.unknown))
        self._table.show({each.topic: _topic_row(each) for each in found.topics})
        self._draw_partitions(found.topics)

    def _draw_partitions(self, topics: Sequence[TopicInfo]) -> None:
        of = next((each for each in topics if each.topic == self._topic), None)
        self._of_partition.show({} if of is None else _partition_rows(of))

    def _choose(self, topic: str) -> None:
        self._topic = topic
        if self._found is not None:
            self._draw_partitions(self._found.topics)


def _topic_row(of: TopicInfo) -> Sequence[Cell]:
    if of.id is None:
        return (of.topic, "missing: `headrace topics make`", "", At(None), "", "", "")
    return (
        of.topic,
        formats.count(len(of.partitions)),
        formats.count(of.records),
        At(of.newest),
        _lag(of.lag),
        formats.rate(of.rate_in),
        _out(of.rate_out),
    )


def _partition_rows(of: TopicInfo) -> Mapping[str, Sequence[Cell]]:
    return {
        str(each.partition): (
            str(each.partition),
            formats.count(each.begin),
            formats.count(each.end),
            "none done" if each.position is None else formats.count(each.position),
            At(each.newest),
            _lag(each.lag),
            formats.rate(each.rate_in),
            _out(each.rate_out),
        )
        for each in of.partitions
    }


def _lag(lag: int | None) -> str:
    return _NOT_READ if lag is None else formats.count(lag)


def _out(rate: float | None) -> str:
    return "" if rate is None else formats.rate(rate)
