"""What the demo has reached, beside what it is to reach."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from rich.table import Table
from rich.text import Text

from headrace.local.demo.figures import Figures, mean, percentile
from headrace.local.demo.oracle import Difference


class LiveModel(Struct, frozen=True):
    """A version that was live during the demo."""

    version: str
    live_since: float
    """Unix seconds."""
    live_since_event: int
    """Events sent by then."""
    trained_on_events: int | None
    metrics: dict[str, float]
    """As the trainer measured them, on the events that it held out."""


class Machine(Struct, frozen=True):
    """What the demo ran on."""

    cpus: int
    python: str
    system: str


class Summary(Struct, frozen=True, kw_only=True):
    """The figures under the names of `summary.json`. Times are milliseconds or seconds, as named.

    A figure of nothing measured is null.
    """

    hr_at_10_model: float | None
    hr_at_10_popularity: float | None
    """Of what merely counts, on the same events, like the next two."""
    hr_at_10_rules: float | None
    """Sequential rules."""
    hr_at_10_knn: float | None
    """Item-kNN."""
    failed_requests: int
    failures: dict[str, int]
    """By reason."""
    events_sent: int
    events_applied: int
    """The sum over all users, read from Redis."""
    sessions_equal: bool
    """Every user's session in Redis is what a plain fold of the file makes it."""
    users_that_differ: int
    freshness_ms_p50: float | None
    freshness_ms_p99: float | None
    freshness_samples: int
    freshness_unseen: int
    request_ms_p50: float | None
    """Outside training, like the next."""
    request_ms_p99: float | None
    request_ms_p50_training: float | None
    request_ms_p99_training: float | None
    requests: int
    requests_training: int
    latest_event_s: float
    """The longest that an event's turn came after its time."""
    model_versions: list[LiveModel]
    seconds_total: float
    """From the start of the stack, data included, to the last figure."""
    notes: list[str]
    machine: Machine


class Row(Struct, frozen=True):
    """A line of the table: a figure, what was reached, the target, and whether that is met."""

    figure: str
    reached: str
    target: str
    met: bool


def summarize(
    figures: Figures,
    *,
    applied: int,
    differing: Sequence[Difference],
    seconds: float,
    now: float,
) -> Summary:
    """Return the summary; `now` in Unix seconds closes a training that still runs."""
    training = figures.requests.within(figures.training_spans(now))
    ms = figures.requests.ms
    calm, busy = ms[~training], ms[training]
    return Summary(
        hr_at_10_model=mean(figures.hits.model()),
        hr_at_10_popularity=mean(figures.hits.baseline("popularity")),
        hr_at_10_rules=mean(figures.hits.baseline("rules")),
        hr_at_10_knn=mean(figures.hits.baseline("knn")),
        failed_requests=figures.failed_requests,
        failures=dict(figures.failures),
        events_sent=figures.sent,
        events_applied=applied,
        sessions_equal=not differing,
        users_that_differ=len(differing),
        freshness_ms_p50=percentile(figures.freshness.ms, 50),
        freshness_ms_p99=percentile(figures.freshness.ms, 99),
        freshness_samples=len(figures.freshness),
        freshness_unseen=figures.unseen,
        request_ms_p50=percentile(calm, 50),
        request_ms_p99=percentile(calm, 99),
        request_ms_p50_training=percentile(busy, 50),
        request_ms_p99_training=percentile(busy, 99),
        requests=len(ms),
        requests_training=int(np.count_nonzero(training)),
        latest_event_s=figures.latest_s,
        model_versions=_live_models(figures),
        seconds_total=seconds,
        notes=list(figures.notes),
        machine=Machine(
            cpus=os.cpu_count() or 0,
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
        ),
    )


def is_right(summary: Summary) -> bool:
    """Return whether the sessions are what the stream makes them: nothing lost, nothing twice."""
    return summary.events_applied == summary.events_sent and summary.sessions_equal


def rows(summary: Summary, *, events_per_second: float) -> list[Row]:
    """Return the summary as lines, each figure beside its target."""
    model, popularity = summary.hr_at_10_model, summary.hr_at_10_popularity
    times = model / popularity if model is not None and popularity else None
    at_pace = f"at {events_per_second:g} events/s"
    return [
        Row("HR@10 of the model", _number(model), "≥ 0.200", _least(model, 0.2)),
        Row("HR@10 of popularity, same events", _number(popularity), "", True),
        Row("HR@10 of sequential rules", _number(summary.hr_at_10_rules), "", True),
        Row("HR@10 of item-kNN", _number(summary.hr_at_10_knn), "", True),
        Row("model, in times of popularity", _number(times, ".1f"), "≥ 2.0", _least(times, 2.0)),
        Row("failed requests", f"{summary.failed_requests:,}", "0", not summary.failed_requests),
        Row(
            "events applied, of those sent",
            f"{summary.events_applied:,} of {summary.events_sent:,}",
            "all, once",
            summary.events_applied == summary.events_sent,
        ),
        Row(
            "sessions equal to the file's",
            "every user's" if summary.sessions_equal else f"{summary.users_that_differ} differ",
            "every user's",
            summary.sessions_equal,
        ),
        _ms_row(f"freshness p50, {at_pace}", summary.freshness_ms_p50, 60),
        _ms_row("freshness p99", summary.freshness_ms_p99, 250),
        Row("request p50", _number(summary.request_ms_p50, ".1f", " ms"), "", True),
        _ms_row("request p99, outside training", summary.request_ms_p99, 20),
        Row(
            "request p50, p99 during training",
            f"{_number(summary.request_ms_p50_training, '.1f')}, "
            f"{_number(summary.request_ms_p99_training, '.1f', ' ms')}",
            "",
            True,
        ),
        Row(
            "whole demo",
            _minutes(summary.seconds_total),
            "≤ 6:00 min",
            summary.seconds_total <= 360,
        ),
    ]


def table(lines: Sequence[Row]) -> Table:
    """Return the lines as a table for the terminal."""
    drawn = Table(title="Headrace, on MovieLens-100k", title_justify="left", title_style="bold")
    for name in ("figure", "reached", "to be reached", ""):
        drawn.add_column(name, justify="right" if name == "reached" else "left")
    for line in lines:
        mark = Text("") if not line.target else Text("✓", "green") if line.met else Text("✗", "red")
        drawn.add_row(line.figure, line.reached, line.target, mark)
    return drawn


def write_json(summary: Summary, path: Path) -> None:
    """Write `summary.json`."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(_rounded(summary)), indent=2) + b"\n")


def _live_models(figures: Figures) -> list[LiveModel]:
    models = []
    for swap in figures.swaps:
        version = figures.version(swap.version)
        models.append(
            LiveModel(
                version=swap.version,
                live_since=swap.at,
                live_since_event=swap.sent,
                trained_on_events=version.data.events if version else None,
                metrics=version.metrics if version else {},
            )
        )
    return models


def _rounded(value: Any) -> Any:
    """Return the value as built-in types, fractions to four digits after the point."""
    if isinstance(value, Struct):
        return {name: _rounded(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def _ms_row(figure: str, ms: float | None, limit: float) -> Row:
    return Row(figure, _number(ms, ".1f", " ms"), f"≤ {limit:g} ms", ms is not None and ms <= limit)


def _least(value: float | None, limit: float) -> bool:
    return value is not None and value >= limit


def _number(value: float | None, spec: str = ".3f", unit: str = "") -> str:
    return "not measured" if value is None else f"{value:{spec}}{unit}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
