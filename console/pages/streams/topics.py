"""Topics and their partitions: how much there is, how fast it moves, how far workers are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from console import formats
from console.visit import Visit
from console.widgets.address import Address
from console.widgets.html import box, text
from console.widgets.parts import Field
from console.widgets.shared import Panel
from console.widgets.table import At, Cell, LiveTable
from headrace_client import HeadraceError
from headrace_client.types import PartitionInfo, TopicInfo, TopicList

_LOOK_S = 3.0
_NOT_READ = "not read by workers"
_NOT_KNOWN = "not known"


class TopicTables:
    """A table of the topics, and one of the partitions of one of them."""

    def __init__(self, visit: Visit, address: Address) -> None:
        self._visit = visit
        self._address = address
        self._topic = self._address.query.get("topic", "")
        self._names: list[str] = []
        self._listeners: list[Callable[[Sequence[str]], object]] = []
        self._found: TopicList | None = None
        self._is_known = False
        """Whether it is known how far workers are."""
        self._topics = Panel(visit, "Topics")
        with self._topics.tools:
            self._over = text("", "muted")
        self._topics.body.clear()
        with self._topics.body:
            self._unknown = text("Loading …", "muted", tag="p")
            self._table = LiveTable(
                "Topics",
                ("Topic", "Lag", "In", "Out", "Newest", "Records", "Partitions"),
            )
        self._partitions = Panel(visit, "Partitions")
        with self._partitions.tools:
            self._choice = Field("Topic", kind="select", on_change=self._choose)
            self._choice.set_visibility(False)
        self._partitions.body.clear()
        with self._partitions.body, box():
            self._of_partition = LiveTable(
                "Partitions",
                ("Partition", "Lag", "In", "Out", "First", "Position", "End", "Newest"),
            )
        visit.every(_LOOK_S, self._look)

    def tell_names(self, listener: Callable[[Sequence[str]], object]) -> None:
        """Tell the names of the topics, once they are known and whenever there are others."""
        self._listeners.append(listener)

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
        self._offer([each.topic for each in found.topics])
        self._over.set_text(f"Rates over the last {found.over_s:.0f} s")
        self._unknown.set_text(found.unknown)
        self._unknown.set_visibility(bool(found.unknown))
        # There is a topic that they read, if it is known of any.
        self._is_known = any(each.lag is not None for each in found.topics)
        self._table.show({each.topic: topic_row(each, self._is_known) for each in found.topics})
        self._draw_partitions(found.topics)

    def _offer(self, names: list[str]) -> None:
        if names == self._names or self._found is None:
            return
        self._names = names
        if self._topic not in names:
            self._topic = max(self._found.topics, key=lambda each: each.records).topic
            self._address.note({"topic": ""})
        self._choice.set_options({name: name for name in names})
        self._choice.set(self._topic)
        self._choice.set_visibility(True)
        for listener in self._listeners:
            listener(names)

    def _draw_partitions(self, topics: Sequence[TopicInfo]) -> None:
        of = next((each for each in topics if each.topic == self._topic), None)
        self._of_partition.show({} if of is None else partition_rows(of, self._is_known))

    def _choose(self, topic: str) -> None:
        self._topic = topic
        self._address.note({"topic": topic})
        if self._found is not None:
            self._draw_partitions(self._found.topics)


def topic_row(of: TopicInfo, is_known: bool) -> Sequence[Cell]:
    """Return the row of a topic. `is_known`: whether it is known how far workers are."""
    if of.id is None:
        return (of.topic, "missing: `headrace topics make`", "", "", At(None), "", "")
    # What ops look for comes first: of a narrow page the rest is to be scrolled to.
    return (
        of.topic,
        _lag(of.lag, is_known),
        formats.rate(of.rate_in),
        _out(of.rate_out, is_known),
        At(of.newest),
        formats.count(of.records),
        formats.count(len(of.partitions)),
    )


def partition_rows(of: TopicInfo, is_known: bool) -> Mapping[str, Sequence[Cell]]:
    """Return by partition its row in the table of one topic's."""
    return {
        str(each.partition): (
            str(each.partition),
            _lag(each.lag, is_known),
            formats.rate(each.rate_in),
            _out(each.rate_out, is_known),
            formats.count(each.begin),
            _position(each, is_known),
            formats.count(each.end),
            At(each.newest),
        )
        for each in of.partitions
    }


def _position(of: PartitionInfo, is_known: bool) -> str:
    if of.position is not None:
        return formats.count(of.position)
    return _lag(None, is_known) if of.lag is None else "none done"


def _lag(lag: int | None, is_known: bool) -> str:
    if lag is None:
        return _NOT_READ if is_known else _NOT_KNOWN
    return formats.count(lag)


def _out(rate: float | None, is_known: bool) -> str:
    if rate is None:
        return "" if is_known else _NOT_KNOWN
    return formats.rate(rate)
