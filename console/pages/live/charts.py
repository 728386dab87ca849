"""Charts of series over time, which say so when there are none."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from console import formats
from console.pages.live.newest import Series
from console.visit import Visit
from console.widgets.parts import Chart
from console.widgets.shared import Nothing, Panel
from headrace_client.types import Figures, Percentiles
from headrace_client.types import Swap as Swapped

_FEW = 30
"""Points of a line that would hardly be seen without marks."""
_APART = 0.05
"""Of a chart's width, that the name of a swap takes, upright beside its line, on a phone."""
_SWAPS = "swaps"
_QUALITY = (
    "Of the lists served, by version, with how many events its newest value is of; dashed lines "
    "are swaps."
)
_PERCENTILES = ("p50", "p95", "p99")


@dataclass(frozen=True)
class Kind:
    """What a chart is of."""

    name: str
    title: str
    """With `{k}` for how long the lists are that are judged."""
    note: str
    unit: str = ""
    swaps: bool = False


KINDS = (
    Kind(
        "hit_rate", "HR@{k}, rolling", _QUALITY,
        swaps=True,
    ),
    Kind(
        "ndcg", "NDCG@{k}, rolling", _QUALITY,
        swaps=True,
    ),
    Kind("events", "Events by topic", "Applied by workers.", "/s"),
    Kind("freshness", "Freshness", "From a record's own time to its effects in Redis.", "ms"),
    Kind("latency", "Time to answer", "Requests, streams left out; the console's own too.", "ms"),
    Kind("lag", "Lag by topic", "Records that workers have not come to yet.", "records"),
    Kind("requests", "Requests and errors", "All servers together; the console's own too.", "/s"),
)  # fmt: skip


class TimeChart:
    """A chart of one kind."""

    def __init__(self, visit: Visit, kind: Kind) -> None:
        named = kind.title.format(k="k")
        self._panel = Panel(visit, named, note=kind.note)
        self._panel.body.clear()
        with self._panel.body:
            self._none = Nothing("")
            self._chart = Chart(named, {"series": []}, unit=kind.unit)
            self._chart.set_visibility(False)
        self._kind = kind

    def show(self, found: Figures, since: float) -> None:
        """Draw its series from a time on, in Unix seconds, and the swaps where it is of quality."""
        series = series_of(found)[self._kind.name]
        there = {name: each for name, each in series.items() if any(v is not None for v in each)}
        title = self._kind.title.format(k=found.quality.k)
        self._panel.rename(title)
        self._none.show(not there)
        self._chart.set_visibility(bool(there))
        if there:
            of_quality = self._kind.swaps
            swaps = marks(found.swaps, since, found.at[-1] + found.step_s) if of_quality else []
            counts = counted(found) if of_quality else {}
            said = _said(title, there, self._kind.unit, swaps, counts)
            self._chart.set(_options(found, there, swaps, since, counts), said)


@dataclass(frozen=True)
class Mark:
    """A swap on a chart, or some that lie so close that their names would lie on one another."""

    at: float
    """Of the last of them, in Unix seconds: what it put live is live from then on."""
    versions: tuple[str, ...]
    """In the order in which they went live."""
    names: tuple[str, ...]
    """Of each what tells it from the others there."""

    @property
    def name(self) -> str:
        """What stands at its line: `a4366d`, `3 swaps to a4366d`."""
        several = len(self.names) > 1
        return f"{len(self.names)} swaps to {self.names[-1]}" if several else self.names[0]


def marks(swaps: Sequence[Swapped], since: float, until: float) -> list[Mark]:
    """Return the swaps of a time, those close together as one."""
    shown = [swap for swap in swaps if since <= swap.at]
    several = len({swap.model_id for swap in shown}) > 1
    width = max(until - since, 1.0)
    close: list[list[Swapped]] = []
    for swap in shown:
        if close and (swap.at - close[-1][0].at) / width <= _APART:
            close[-1].append(swap)
        else:
            close.append([swap])

    def named(swap: Swapped) -> str:
        return f"{swap.model_id} {short(swap.version)}" if several else short(swap.version)

    return [
        Mark(of[-1].at, tuple(each.version for each in of), tuple(map(named, of))) for of in close
    ]


def short(label: str) -> str:
    """Return the end of a version's name, which tells it from others; all of it is in the tips."""
    return label.rpartition("-")[2] if label[:1].isdigit() else label


def legend_of(labels: Collection[str]) -> list[str]:
    """Return labels as a legend has them: what is no version, then versions, newest first.

    A legend that is cut shows what is of now.
    """
    # A version's name begins with its time.
    versions = {label for label in labels if label[:1].isdigit()}
    return [*sorted(set(labels) - versions), *sorted(versions, reverse=True)]


def counted(found: Figures) -> dict[str, str]:
    """Return by label of how many events its newest values are: of few they say little."""
    newest = {
        label: next((n for n in reversed(each.events) if n), 0)
        for label, each in found.quality.by_label.items()
    }
    return {label: formats.events(n) for label, n in newest.items()}


def begin_of(found: Figures) -> float:
    """Return where charts begin, in Unix seconds: with the first value there is of anything."""
    begins = [
        next(at for at, value in enumerate(each) if value is not None)
        for of_kind in series_of(found).values()
        for each in of_kind.values()
        if any(value is not None for value in each)
    ]
    return found.at[min(begins, default=0)]


def series_of(found: Figures) -> dict[str, Mapping[str, Series]]:
    """Return by kind of chart its series by name."""
    # A version's name begins with its time; what is no version keeps its colour when one comes.
    by_label = found.quality.by_label
    quality = {
        label: by_label[label] for label in sorted(by_label, key=lambda at: at[:1].isdigit())
    }
    return {
        "events": found.events_per_s,
        "lag": found.lag,
        "freshness": _percentiles(found.freshness_ms),
        "latency": _percentiles(found.latency_ms),
        "requests": {
            "requests": found.requests_per_s,
            "4xx": found.client_errors_per_s,
            "5xx": found.server_errors_per_s,
        },
        "hit_rate": {label: each.hit_rate for label, each in quality.items()},
        "ndcg": {label: each.ndcg for label, each in quality.items()},
    }


def _percentiles(found: Percentiles) -> Mapping[str, Series]:
    return {name: getattr(found, name) for name in _PERCENTILES}


def _said(
    title: str,
    series: Mapping[str, Series],
    unit: str,
    swaps: Sequence[Mark],
    counts: Mapping[str, str],
) -> str:
    """Return what a chart shows for those who do not see it: the newest values, and the swaps."""
    newest = {name: [v for v in each if v is not None][-1] for name, each in series.items()}
    values = ", ".join(
        f"{name} {formats.plain(value)} {unit}".strip()
        + (f" of {counts[name]}" if name in counts else "")
        for name, value in newest.items()
    )
    swapped = "; ".join(version for mark in swaps for version in mark.versions)
    return f"{title}. Newest: {values}." + (f" Swaps: {swapped}." if swapped else "")


def _options(
    found: Figures,
    series: Mapping[str, Series],
    swaps: Sequence[Mark],
    since: float,
    counts: Mapping[str, str],
) -> dict[str, Any]:
    lines: list[dict[str, Any]] = [
        {
            "type": "line",
            "name": name,
            "data": [None if value is None else float(f"{value:.4g}") for value in values],
            "showSymbol": sum(value is not None for value in values) < _FEW,
            "symbolSize": 4,
            "connectNulls": False,
            "lineStyle": {"width": 1.75},
        }
        for name, values in series.items()
    ]
    return {
        "still": True,
        # What is of a time is known at its end: an effect must not stand before its cause.
        "at": [at + found.step_s for at in found.at],
        "xAxis": {
            "type": "time",
            "min": 1_000 * since,
            "max": 1_000 * (found.at[-1] + found.step_s),
        },
        "yAxis": {"type": "value", "min": 0},
        "legend": {"data": legend_of(series) if counts else list(series)},
        "shown": {label: f"{short(label)}: {of_events}" for label, of_events in counts.items()},
        "tooltip": {"trigger": "axis"},
        "series": [*lines, _swapped(swaps, found.at)],
    }


def _swapped(swaps: Sequence[Mark], at: Sequence[float]) -> dict[str, Any]:
    """Return the swaps as a series of their own: they stay whichever line is hidden.

    `at`: when each step begins. The tips of steps with swaps name all of them.
    """
    return {
        "type": "line",
        "name": _SWAPS,
        "data": [],
        "told": [[_step_of(swap.at, at), ", ".join(swap.names)] for swap in swaps],
        "markLine": {
            "symbol": "none",
            "silent": True,
            "data": [{"xAxis": 1_000 * swap.at, "name": swap.name} for swap in swaps],
            "label": {"formatter": "{b}", "position": "insideEndTop", "fontSize": 10},
        },
    }


def _step_of(moment: float, at: Sequence[float]) -> int:
    return max(0, bisect_right(at, moment) - 1)
