"""The figures of topics as tables, once or again and again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

import msgspec
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from headrace.commands.durations import ago
from headrace.commands.output import output
from headrace.errors import HeadraceError
from headrace.settings import Settings
from headrace.topic_figures import TopicFigures, TopicsObserver
from headrace.topics import Topics, ensure_topics

_LEAST_S = 0.1
"""Shortest sample: in a shorter one rates would be noise."""
_ID_SHOWN = 8
"""Characters of an id, the last ones: ids that begin with the time begin alike."""


@dataclass(frozen=True)
class Watching:
    """How figures are to be shown."""

    settings: Settings
    over_s: float
    """Seconds over which rates are measured."""
    as_json: bool
    again: bool
    """Until Ctrl-C."""


Figures = tuple[list[TopicFigures], str]
"""Of topics; and why workers' positions are not known, or ""."""


def show_topics(watching: Watching) -> None:
    """Show a line for each topic. Raises `HeadraceError` when Kafka cannot be read."""
    _show(watching, Topics(watching.settings).all, _topics_table)


def show_partitions(name: str, watching: Watching) -> None:
    """Show a line for each partition of a topic.

    Raises `HeadraceError` when there is no such topic, or Kafka cannot be read.
    """
    topics = Topics(watching.settings)
    topic = topics.plain(name)
    if topic not in topics.all:
        raise HeadraceError(f"{name!r} is not a topic; there are {', '.join(topics.all)}.")
    _show(watching, (topic,), _partitions_table)


def make_topics(settings: Settings) -> None:
    """Make the topics that are missing, and show all. Raises `HeadraceError` without Kafka."""
    _quieten()
    table = Table("topic", "partitions", "id", box=None)
    for topic in ensure_topics(settings).values():
        table.add_row(topic.name, str(topic.partitions), topic.id)
    output().print(table)


def _show(
    watching: Watching,
    topics: Sequence[str],
    table: Callable[[list[TopicFigures], float], RenderableType],
) -> None:
    _quieten()
    console = output()

    def drawn(figures: Figures) -> RenderableType:
        rows, unknown = figures
        return Group(table(rows, time.time()), *_notes(rows, unknown))

    samples = _samples(watching, topics)
    with closing(samples), suppress(KeyboardInterrupt):
        if watching.as_json:
            for sample in samples:
                console.out(_json(sample).decode(), highlight=False)
        elif watching.again:
            with Live(console=console, auto_refresh=False) as live:
                for sample in samples:
                    live.update(drawn(sample), refresh=True)
        else:
            with console.status(f"Measuring for {watching.over_s:g} s …"):
                sample = next(samples)
            console.print(drawn(sample))


def _samples(watching: Watching, topics: Sequence[str]) -> Generator[Figures, None, None]:
    with closing(TopicsObserver(watching.settings)) as observer:
        while True:
            yield observer.figures(topics, over_s=max(watching.over_s, _LEAST_S), sleep=time.sleep)
            if not watching.again:
                return


def _topics_table(rows: list[TopicFigures], now: float) -> Table:
    table = _table("topic", "id", "partitions", "records", "newest", "lag", "in/s", "out/s")
    for topic in rows:
        if topic.id is None:
            table.add_row(escape(topic.name), "[yellow]missing[/]")
            continue
        table.add_row(
            escape(topic.name),
            f"…{topic.id[-_ID_SHOWN:]}",
            str(len(topic.partitions)),
            f"{topic.records:,}",
            ago(topic.newest, now),
            _count(topic.lag),
            _rate(topic.rate_in),
            _rate(topic.rate_out),
        )
    return table


def _partitions_table(rows: list[TopicFigures], now: float) -> Table:
    table = _table("partition", "begin", "end", "newest", "position", "lag", "in/s", "out/s")
    for each in rows[0].partitions:
        table.add_row(
            str(each.partition),
            f"{each.begin:,}",
            f"{each.end:,}",
            ago(each.newest, now),
            _count(each.position),
            _count(each.lag),
            _rate(each.rate_in),
            _rate(each.rate_out),
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None)
    table.add_column(first, no_wrap=True, overflow="fold")
    for name in others:
        table.add_column(name, no_wrap=True, justify="left" if name == "id" else "right")
    return table


def _notes(rows: list[TopicFigures], unknown: str) -> Iterator[str]:
    if any(topic.id is None for topic in rows):
        yield "[yellow]What is missing is made by `headrace topics create`, or by a worker.[/]"
    if unknown:
        yield f"[yellow]There is no lag to show: {escape(unknown)}.[/]"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"  # noqa: RUF001


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"  # noqa: RUF001


def _json(figures: Figures) -> bytes:
    rows, unknown = figures
    topics = [
        {
            **msgspec.to_builtins(topic),
            "records": topic.records,
            "newest": topic.newest,
            "lag": topic.lag,
            "rate_in": topic.rate_in,
            "rate_out": topic.rate_out,
        }
        for topic in rows
    ]
    return msgspec.json.encode({"topics": topics, "lag_unknown": unknown or None})


def _quieten() -> None:
    # It reports each refused connection; the error says it once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
