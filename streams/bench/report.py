"""What the benchmark of the streams came to: its figures, and what they are to reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from headrace.measuring import Figure
from streams.bench.freshness import Freshness
from streams.bench.memory import Growth, UserBytes
from streams.bench.throughput import Throughput


@dataclass(frozen=True)
class Runs:
    """Every run, in the order in which they were made."""

    ours: list[Throughput]
    bare: list[Throughput]
    """Each right after the one of `ours` that it is compared with."""
    two_workers: list[Throughput]
    """Likewise."""
    freshness: list[Freshness]
    user_bytes: UserBytes
    growth: Growth


@dataclass(frozen=True)
class Measure:
    """A line of the table."""

    title: str
    target: str
    reached: bool | None
    """None where the target is not a number."""
    figure: Figure


def measures(runs: Runs) -> dict[str, Measure]:
    """Return the figures by the names that they have in the JSON."""
    one, bare, two = runs.ours, runs.bare, runs.two_workers
    per_cpu = [run.events_per_cpu_s for run in one]
    lines = (
        (
            "agent_ratio",
            "events/s, ours ÷ bare agent",
            ("≥", 0.75),
            _ratios([run.events_per_s for run in one], [run.events_per_s for run in bare]),
        ),
        (
            "agent_cpu_ratio",
            "events per CPU second, ours ÷ bare agent",
            None,
            _ratios(per_cpu, [run.events_per_cpu_s for run in bare]),
        ),
        (
            "scaling_efficiency",
            "events per CPU second, two workers ÷ one",
            ("≥", 0.85),
            _ratios([run.events_per_cpu_s for run in two], per_cpu),
        ),
        (
            "two_workers_ratio",
            "events/s, two workers ÷ one",
            None,
            _ratios([run.events_per_s for run in two], [run.events_per_s for run in one]),
        ),
        (
            "bytes_per_user",
            "Redis bytes a user, 50 interactions",
            ("≤", 6144.0),
            [max(runs.user_bytes.of_keys, runs.user_bytes.of_server)],
        ),
        (
            "freshness_ms_p50",
            "acknowledged → changed at half load, ms, p50",
            ("≤", 30.0),
            [run.p50_ms for run in runs.freshness],
        ),
        ("freshness_ms_p99", "p99", ("≤", 120.0), [run.p99_ms for run in runs.freshness]),
        (
            "rss_mb_per_million",
            f"worker's memory, MiB per million of {runs.growth.events:,} events",
            "no slope",
            [runs.growth.mb_per_million],
        ),
    )
    return {name: _measure(title, target, values) for name, title, target, values in lines}


def as_json(runs: Runs, repeats: int, versions: dict[str, str], machine: dict[str, Any]) -> object:
    """Return the content of the file: each figure by name, its spread, and all runs."""
    found = measures(runs)
    return {
        "benchmark": "streams",
        **{name: measure.figure.median for name, measure in found.items()},
        "spread": {name: measure.figure.spread for name, measure in found.items()},
        "targets": {name: measure.target for name, measure in found.items() if measure.target},
        "repeats": repeats,
        "events_per_s": {
            name: asdict(Figure.of(run.events_per_s for run in of))
            for name, of in _throughputs(runs).items()
        },
        "cpu_us_per_event": {
            name: asdict(Figure.of(1e6 / run.events_per_cpu_s for run in of))
            for name, of in _throughputs(runs).items()
        },
        "runs": asdict(runs),
        "versions": versions,
        "machine": machine,
    }


def show(runs: Runs, console: Console) -> None:
    """Print the figures beside what they are to reach, and the rates behind them."""
    table = Table("measure", "name", box=None)
    for column in ("median", "spread", "to reach", ""):
        table.add_column(column, justify="right")
    marks = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}
    for name, measure in measures(runs).items():
        numbers = (f"{measure.figure.median:,.5g}", f"{measure.figure.spread:,.3g}")
        table.add_row(measure.title, name, *numbers, measure.target, marks[measure.reached])
    console.print(table)
    for name, of in _throughputs(runs).items():
        rate = Figure.of(run.events_per_s for run in of)
        console.print(f"{name}: {rate.median:,.0f} events/s ± {rate.spread / 2:,.0f}")
    growth = runs.growth
    console.print(
        f"worker's memory: {growth.first_mb:,.1f} → {growth.last_mb:,.1f} MiB, "
        f"slope {growth.mb_per_million:+.2f} ± {growth.error:.2f} MiB per million events"
    )


def _throughputs(runs: Runs) -> dict[str, list[Throughput]]:
    return {"ours": runs.ours, "bare": runs.bare, "two_workers": runs.two_workers}


def _measure(title: str, target: tuple[str, float] | str | None, values: list[float]) -> Measure:
    figure = Figure.of(values)
    if not isinstance(target, tuple):
        return Measure(title, target or "", None, figure)
    sign, bound = target
    reached = figure.median >= bound if sign == "≥" else figure.median <= bound
    return Measure(title, f"{sign} {bound:,g}", reached, figure)


def _ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return the ratio of each pair of runs that were made one after the other."""
    return [value / other for value, other in zip(values, others, strict=True)]
