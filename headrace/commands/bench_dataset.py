"""How long it takes to make a training's dataset of a log, and how much memory."""

from __future__ import annotations

import itertools
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from headrace.columns import ColumnBuilder
from headrace.commands.synthetic_log import synthetic_log
from headrace.errors import HeadraceError, InvalidEvent
from headrace.events import EventColumns, parse_event
from headrace.topics import EVENT_TOPICS

_SAMPLE = 200_000
"""Records that are parsed one by one too, to compare."""

MakeDataset = Callable[[EventColumns], object]


@dataclass(frozen=True)
class Figure:
    """One figure of several runs."""

    median: float
    spread: float
    """The greatest less the least."""


@dataclass(frozen=True)
class Report:
    """What a benchmark came to."""

    benchmark: str
    events: int
    """Records of the log, malformed ones and duplicates included."""
    kept: int
    """Events in the columns."""
    repeats: int
    seconds: dict[str, Figure]
    """Of each step; `total` leaves out `generate`."""
    events_per_s: Figure
    one_by_one_events_per_s: Figure
    """`parse_event` alone on a sample, without making columns of what it returns."""
    ratio: float
    """How many times faster records become columns than `parse_event` parses them one by one."""
    peak_rss_mb: float
    """Of this process, what generates the log included."""
    machine: dict[str, Any]


def bench_dataset(events: int, repeats: int, make_dataset: MakeDataset, console: Console) -> Report:
    """Make a log of `events` records, columns of it, and the dataset, `repeats` times.

    The log goes from its generator to the columns a piece at a time, as bytes, as it does from
    Kafka in a training; reading from Kafka itself is not part of it.
    """
    load = os.getloadavg()[0]
    runs = []
    with _progress(console) as progress:
        bar = progress.add_task("", total=events * repeats)
        for number in range(1, repeats + 1):
            progress.update(bar, description=f"run {number} of {repeats}")
            runs.append(_run(events, make_dataset, lambda count: progress.advance(bar, count)))
    return _report(events, runs, load)


def show(report: Report, console: Console) -> None:
    """Tell what it came to in words."""
    steps = ", ".join(f"{name} {figure.median:,.1f} s" for name, figure in report.seconds.items())
    console.print(
        f"{report.events:,} records, {report.kept:,} events kept: {steps}; "
        f"{report.events_per_s.median:,.0f} records/s, {report.ratio:.1f} times what one by one "
        f"does; peak memory {report.peak_rss_mb:,.0f} MB.",
        highlight=False,
    )


def write(report: Report, file: Path) -> None:
    """Write it as JSON. Raises `HeadraceError` when the file cannot be written."""
    try:
        file.write_text(json.dumps(asdict(report), indent=2) + "\n")
    except OSError as exc:
        raise HeadraceError(f"{file} cannot be written: {exc.strerror}.") from exc


@dataclass
class _Run:
    kept: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("generate", "parse", "sort", "dataset"), 0.0)
    )
    one_by_one_events_per_s: float = 0.0

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time that the block takes to the step's."""
        begin = time.perf_counter()
        yield
        self.seconds[step] += time.perf_counter() - begin

    @property
    def total(self) -> float:
        return sum(self.seconds.values()) - self.seconds["generate"]


def _run(events: int, make_dataset: MakeDataset, advance: Callable[[int], None]) -> _Run:
    run = _Run()
    run.one_by_one_events_per_s = _one_by_one(min(events, _SAMPLE))
    builder = ColumnBuilder(np.random.default_rng())
    log = synthetic_log(events)
    while True:
        with run.timed("generate"):
            piece = next(log, None)
        if piece is None:
            break
        with run.timed("parse"):
            builder.add(*piece)
        advance(len(piece[1]))
    with run.timed("sort"):
        columns = builder.build({})
    del builder
    with run.timed("dataset"):
        make_dataset(columns)
    run.kept = len(columns)
    return run


def _one_by_one(events: int) -> float:
    """Return how many records of such a log `parse_event` parses a second."""
    sample = list(synthetic_log(events))
    begin = time.perf_counter()
    for topic, records in sample:
        kind = EVENT_TOPICS[topic]
        for value, at in zip(records.values, (records.time / 1000).tolist(), strict=True):
            try:
                parse_event(value, kind, received_at=at)
            except InvalidEvent:
                continue
    return events / (time.perf_counter() - begin)


def _report(events: int, runs: list[_Run], load: float) -> Report:
    seconds = {step: _figure(run.seconds[step] for run in runs) for step in runs[0].seconds}
    seconds["total"] = _figure(run.total for run in runs)
    one_by_one = _figure(run.one_by_one_events_per_s for run in runs)
    to_columns = statistics.median(run.seconds["parse"] + run.seconds["sort"] for run in runs)
    return Report(
        benchmark="dataset",
        events=events,
        kept=runs[0].kept,
        repeats=len(runs),
        seconds=seconds,
        events_per_s=_figure(events / run.total for run in runs),
        one_by_one_events_per_s=one_by_one,
        ratio=round(events / to_columns / one_by_one.median, 3),
        # Of Linux: in KiB.
        peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        machine=_machine(load),
    )


def _figure(values: Iterable[float]) -> Figure:
    all_ = list(values)
    return Figure(round(statistics.median(all_), 3), round(max(all_) - min(all_), 3))


def _machine(load: float) -> dict[str, Any]:
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(load, 2),
    }


def _processor() -> str:
    with Path("/proc/cpuinfo").open() as lines:
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(itertools.chain(names, ("unknown",)))


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
