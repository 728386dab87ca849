"""How long it takes to make a training's dataset of a log, and how much memory."""

from __future__ import annotations

import math
import os
import resource
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from headrace.columns import ColumnBuilder
from headrace.commands.synthetic_log import synthetic_log
from headrace.errors import InvalidEvent
from headrace.events import EventColumns, parse_event
from headrace.measuring import Figure, machine
from headrace.topics import EVENT_TOPICS

_SAMPLE = 200_000
"""Records that are taken one by one too, to compare."""

MakeDataset = Callable[[EventColumns], object]


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
    """Of each step, on the clock; `total` leaves out `generate`."""
    cpu_seconds: dict[str, Figure]
    """The same as the processor spent them: on a machine with other work, the fairer figure."""
    events_per_s: Figure
    """By the clock, of the steps of `total`."""
    one_by_one_cpu_s: float
    """What a million records of a sample cost, each an object that is taken apart in turn."""
    ratio: float
    """How many times that is what a million records cost at once, parsed and sorted."""
    peak_rss_mb: float
    """Of this process, what generates the log included."""
    machine: dict[str, Any]


def bench_dataset(events: int, repeats: int, make_dataset: MakeDataset, console: Console) -> Report:
    """Make a log of `events` records, columns of it, and the dataset, `repeats` times.

    The log goes from its generator to the columns a piece at a time, as bytes, as it does from
    Kafka in a training; reading from Kafka itself is not part of it.
    """
    load = os.getloadavg()[0]
    one_by_one = _one_by_one(min(events, _SAMPLE))
    runs = []
    with _progress(console) as progress:
        bar = progress.add_task("", total=events * repeats)
        for number in range(1, repeats + 1):
            progress.update(bar, description=f"run {number} of {repeats}")
            runs.append(_run(events, make_dataset, lambda count: progress.advance(bar, count)))
    return _report(events, runs, one_by_one, load)


def show(report: Report, console: Console) -> None:
    """Tell what it came to in words."""
    steps = ", ".join(f"{name} {figure.median:,.1f} s" for name, figure in report.seconds.items())
    console.print(
        f"{report.events:,} records, {report.kept:,} events kept: {steps}; "
        f"{report.events_per_s.median:,.0f} records/s, at {report.ratio:.1f} times less processor "
        f"time than one by one; peak memory {report.peak_rss_mb:,.0f} MB.",
        highlight=False,
    )


_STEPS = ("generate", "parse", "sort", "dataset")


@dataclass
class _Run:
    kept: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STEPS, 0.0))
    cpu_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STEPS, 0.0))

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time that the block takes to the step's."""
        clock, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[step] += time.perf_counter() - clock
        self.cpu_seconds[step] += time.process_time() - cpu


def _run(events: int, make_dataset: MakeDataset, advance: Callable[[int], None]) -> _Run:
    run = _Run()
    builder = ColumnBuilder(np.random.default_rng())
    log = synthetic_log(events)
    while True:
        with run.timed("generate"):
            piece = next(log, None)
        if piece is None:
            break
        with run.timed("parse"):
            builder.add(piece)
        advance(len(piece.records))
    with run.timed("sort"):
        columns = builder.build({})
    del builder
    with run.timed("dataset"):
        make_dataset(columns)
    run.kept = len(columns)
    return run


def _one_by_one(events: int) -> float:
    """Return the CPU seconds a million such records cost that are parsed and kept one by one."""
    sample = list(synthetic_log(events))
    event_ids: dict[str, int] = {}
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    codes, numbers = array("i"), array("d")
    begin = time.process_time()
    for batch in sample:
        kind, records = EVENT_TOPICS[batch.topic], batch.records
        for value, at in zip(records.values, records.time.tolist(), strict=True):
            try:
                event = parse_event(value, kind, received_at=at / 1000)
            except InvalidEvent:
                continue
            codes.append(event_ids.setdefault(event.event_id, len(event_ids)))
            codes.append(users.setdefault(event.user_id, len(users)))
            codes.append(items.setdefault(event.item_id, len(items)))
            numbers.append(event.timestamp)
            numbers.append(getattr(event, "rating", None) or math.nan)
    return (time.process_time() - begin) * 1_000_000 / events


def _report(events: int, runs: list[_Run], one_by_one: float, load: float) -> Report:
    seconds = _figures([run.seconds for run in runs])
    cpu_seconds = _figures([run.cpu_seconds for run in runs])
    at_once = cpu_seconds["parse"].median + cpu_seconds["sort"].median
    return Report(
        benchmark="dataset",
        events=events,
        kept=runs[0].kept,
        repeats=len(runs),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        events_per_s=Figure.of(events / _total(run.seconds) for run in runs),
        one_by_one_cpu_s=round(one_by_one, 3),
        ratio=round(one_by_one / (at_once * 1_000_000 / events), 2),
        # Linux gives KiB.
        peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        machine=machine(load),
    )


def _total(seconds: dict[str, float]) -> float:
    return sum(seconds.values()) - seconds["generate"]


def _figures(runs: list[dict[str, float]]) -> dict[str, Figure]:
    of_steps = {step: Figure.of(run[step] for run in runs) for step in _STEPS}
    return {**of_steps, "total": Figure.of(_total(run) for run in runs)}


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
