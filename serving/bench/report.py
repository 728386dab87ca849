"""What the benchmark of serving came to: its figures, and what they are to reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from headrace.measuring import Bound, Figure, Measure, measures_json, show_measures
from serving.bench.model_part import ModelPart
from serving.bench.phases import FullLoad, Million, Overload, Steady, Swap


@dataclass(frozen=True)
class Runs:
    """Every run, in the order in which they were made; the nth of each belong together."""

    full: list[FullLoad]
    steady: list[Steady]
    swap: list[Swap]
    overload: list[Overload]
    model: list[ModelPart]
    large_model: list[ModelPart]
    large: list[Million]
    rollback_s: list[float]


def measures(runs: Runs) -> dict[str, Measure]:
    """Return the figures by the names that they have in the JSON."""
    still = [run.latency.p99_ms for run in runs.steady]
    lines: tuple[tuple[str, str, Bound | str | None, list[float]], ...] = (
        ("requests_per_s", "requests/s, full load", None, [r.requests_per_s for r in runs.full]),
        (
            "echo_ratio",
            "requests/s, ours ÷ plain route",
            ("≥", 0.45),
            [run.requests_per_s / run.plain_per_s for run in runs.full],
        ),
        (
            "p50_ms",
            "at 60 % of full load, ms, p50",
            ("≤", 2.0),
            [run.latency.p50_ms for run in runs.steady],
        ),
        ("p99_ms", "p99", ("≤", 10.0), still),
        ("model_ms", "model's part, ms, p50", ("≤", 0.4), [run.p50_ms for run in runs.model]),
        (
            "model_ms_1m",
            "model's part, large catalogue",
            ("≤", 0.6),
            [run.p50_ms for run in runs.large_model],
        ),
        ("rss_mb_1m", "memory, MiB", ("≤", 1200.0), [run.rss_mb for run in runs.large]),
        ("ready_s_1m", "start to ready, s", ("≤", 10.0), [run.ready_s for run in runs.large]),
        (
            "swap_p99_ratio",
            "p99 while a version is swapped in ÷ without",
            ("≤", 2.0),
            _ratios([run.latency.p99_ms for run in runs.swap], still),
        ),
        ("rollback_s", "rollback, s", ("≤", 1.0), runs.rollback_s),
        (
            "rollback_s_1m",
            "rollback to a large catalogue, s",
            ("≤", 1.0),
            [run.rollback_s for run in runs.large],
        ),
        (
            "overload_p99_ratio",
            "p99 of the admitted at ten times full load ÷ without",
            "kept",
            _ratios([run.admitted.written_p99_ms for run in runs.overload], still),
        ),
        (
            "overload_rejected",
            "share refused at ten times full load",
            "the rest",
            [_refused(run) for run in runs.overload],
        ),
        (
            "overload_refused_ms",
            "time to a refusal, ms, p50",
            "at once",
            [run.refused.written_p50_ms for run in runs.overload],
        ),
    )
    return {name: Measure.of(title, target, values) for name, title, target, values in lines}


def as_json(runs: Runs, sizes: object) -> dict[str, Any]:
    """Return the content of the file: each figure by name, its spread, and all runs."""
    return {
        "benchmark": "serving",
        **measures_json(measures(runs)),
        "repeats": len(runs.full),
        "sizes": sizes,
        "plain_per_s": asdict(Figure.of(run.plain_per_s for run in runs.full)),
        "cpu_us_per_request": asdict(Figure.of(run.cpu_us for run in runs.full)),
        "runs": asdict(runs),
    }


def show(runs: Runs, console: Console) -> None:
    """Print the figures beside what they are to reach, and what stands behind them."""
    show_measures(measures(runs), console)
    plain = Figure.of(run.plain_per_s for run in runs.full)
    ours, theirs = (
        Figure.of(run.cpu_us for run in runs.full),
        Figure.of(run.plain_cpu_us for run in runs.full),
    )
    console.print(
        f"plain route: {plain.median:,.0f} requests/s; processor time a request: "
        f"{ours.median:,.0f} µs, the plain route {theirs.median:,.0f} µs",
        highlight=False,
    )
    asked = Figure.of(run.asked_per_s / run.rate for run in runs.overload)
    if asked.median < 1:
        console.print(
            f"under overload the client wrote {asked.median:.0%} of the requests that were meant"
        )
    if not all(run.swapped for run in runs.swap):
        console.print("[red]the other version was not live before the load ended[/]")


def _refused(run: Overload) -> float:
    answered = run.admitted.count + run.refused.count + run.lost
    return run.refused.count / answered if answered else 0.0


def _ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return the ratio of each pair of runs that belong together."""
    return [value / other for value, other in zip(values, others, strict=True)]
