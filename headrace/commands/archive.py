"""`headrace archive`: bringing the archive level with the topics, once or over and over."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from headrace.archiver import Outcome, archive_held, plan_archive, run_plan
from headrace.errors import HeadraceError
from headrace.settings import Settings
from headrace.topics import ERASURES, Topics


def chosen_topics(names: str | None, known: Topics) -> tuple[str, ...]:
    """Return the topics that `--topics` names, by default those of all events, and erasures.

    Raises `HeadraceError` for one that there is not.
    """
    if names is None:
        return (*known.all_kinds, ERASURES)
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in chosen:
        if name not in known.all:
            raise HeadraceError(f"{name!r} is not a topic; there are {', '.join(known.all)}.")
    return chosen


def archive_once(settings: Settings, topics: Sequence[str], console: Console) -> None:
    """Archive what is new. Raises `HeadraceError` when that cannot be."""
    _quieten()
    with archive_held(Path(settings.archive)):
        _archive(settings, topics, console)


def archive_over_and_over(
    settings: Settings, topics: Sequence[str], every_s: float, console: Console
) -> None:
    """Archive what is new, once every so many seconds, until Ctrl-C or SIGTERM.

    A run that fails is told and made good by the next. Raises `HeadraceError` when the first fails.
    """
    _quieten()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with archive_held(Path(settings.archive)):
            _archive(settings, topics, console)
            while True:
                time.sleep(every_s)
                try:
                    _archive(settings, topics, console)
                except HeadraceError as exc:
                    _say(console, f"[red]{escape(str(exc))}[/]")
    except KeyboardInterrupt:
        _say(console, "Ended; the next run goes on from here.")


def _archive(settings: Settings, topics: Sequence[str], console: Console) -> None:
    plan = plan_archive(settings, topics)
    for warning in plan.warnings:
        _say(console, f"[yellow]{escape(warning)}[/]")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("archiving", total=plan.offsets)
        outcomes = run_plan(settings, plan, lambda count: progress.advance(bar, count))
    console.print(_table(outcomes))
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    _say(console, f"[dim]{now}, archive {escape(settings.archive)}[/]")


def _table(outcomes: Mapping[str, Outcome]) -> Table:
    table = Table(box=None)
    table.add_column("topic")
    for name in ("partitions", "new records", "files", "size"):
        table.add_column(name, justify="right")
    table.add_column("archived through, by partition")
    for topic, outcome in outcomes.items():
        ends = " ".join(f"{partition}:{end}" for partition, end in sorted(outcome.ends.items()))
        table.add_row(
            topic,
            str(len(outcome.ends)),
            f"{outcome.records:,}",
            str(outcome.files),
            decimal(outcome.bytes),
            ends or "there is no such topic in Kafka",
        )
    return table


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False)


def _quieten() -> None:
    # They report each refused connection; who waits for the broker says it once.
    for name in ("kafka", "aiokafka"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
