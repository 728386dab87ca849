"""What the benchmark of the streams came to: its figures, and what they are to reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from headrace.measuring import Bound, Figure, Measure, measures_json, show_measures
from streams.bench.freshness import Freshness
from streams.bench.memory import Growth, UserBytes
from streams.bench.replaying import Replay
from streams.bench.stopping import Stop
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
    stops: list[Stop]
    replays: list[Replay]
    user_bytes: UserBytes
    growth: Growth


def measures(runs: Runs) -> dict[str, Measure]:
    """Return the figures by the names that they have in the JSON."""
    one, bare, two = runs.ours, runs.bare, runs.two_workers
    per_cpu = [run.events_per_cpu_s for run in one]
    lines: tuple[tuple[str, str, Bound | str | None, list[float]], ...] = (
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
            "stop_s",
            "SIGTERM → ended amid a backlog, s",
            ("≤", 3.0),
            [run.seconds for run in runs.stops],
        ),
        (
            "stop_uncommitted",
            "events applied and not committed then",
            ("≤", 0.0),
            [run.uncommitted for run in runs.stops],
        ),
        (
            "replay_events_per_s",
            "events/s of a replay into a shadow",
            ("≥", 15_000.0),
            [run.events_per_s for run in runs.replays],
        ),
        (
            "rss_mb_per_million",
            f"worker's memory, MiB per million of {runs.growth.events:,} events",
            "no slope",
            [runs.growth.mb_per_million],
        ),
    )
    return {name: Measure.of(title, target, values) for name, title, target, values in lines}


def as_json(runs: Runs, repeats: int) -> dict[str, Any]:
    """Return the content of the file: each figure by name, its spread, and all runs."""
    return {
        "benchmark": "streams",
        **measures_json(measures(runs)),
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
    }


def show(runs: Runs, console: Console) -> None:
    """Print the figures beside what they are to reach, and the rates behind them."""
    show_measures(measures(runs), console)
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


def _ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return the ratio of each pair of runs that were made one after the other."""
    return [value / other for value, other in zip(values, others, strict=True)]
