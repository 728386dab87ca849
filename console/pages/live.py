"""Live: what goes through the system, how fast it answers, and how good the lists are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from console import formats
from console.visit import Page, Visit
from console.widgets.html import box, text
from console.widgets.parts import Chart, Field
from console.widgets.shared import Figure, Nothing, Panel
from console.widgets.table import Cell, LiveTable, Marked
from headrace_client import HeadraceError
from headrace_client.types import Figures, Percentiles, RouteFigures

_WINDOWS = {"1h": "Last hour", "1d": "Last day"}
_LOOK_S = 5.0
_FEW = 30
"""Points of a line that would hardly be seen without marks."""
_PERCENTILES = ("p50", "p95", "p99")
Series = Sequence[float | None]


class Live:
    """The state of one open page."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._window = "1h"
        self._charts: dict[str, _TimePanel] = {}
        self._figures: dict[str, Figure] = {}

    def draw(self) -> None:
        """Draw the page."""
        self._now = Panel(self._visit, "Now")
        with self._now.tools:
            self._step = text("", "muted")
            Field("Window", kind="select", options=_WINDOWS, value="1h", on_change=self._choose)
        self._now.body.clear()
        with self._now.body, box("figures"):
            self._figures = {name: Figure(name, note) for name, note in _FIGURES}
        with box("charts"):
            for name, title, note, unit in _CHARTS:
                self._charts[name] = _TimePanel(self._visit, title, note, unit)
        routes = Panel(self._visit, "Requests by route", note="Over the window.")
        routes.body.clear()
        with routes.body:
            self._none = Nothing("No request has been answered within the window.")
            self._routes = LiveTable("Requests by route", _ROUTE_HEADS)
        self._routes.root.set_visibility(False)
        self._visit.every(_LOOK_S, self._look)

    async def _choose(self, window: str) -> None:
        self._window = window
        await self._look()

    async def _look(self) -> None:
        window = self._window
        try:
            found = await self._visit.api.figures(window=window)
        except HeadraceError as error:
            self._now.tell(self._visit.trouble(error))
            return
        if window == self._window:
            self._now.tell(None)
            self._show(found)

    def _show(self, found: Figures) -> None:
        self._step.set_text(f"a point each {formats.duration(found.step_s)}")
        worker, server = found.told_at.get("worker"), found.told_at.get("server")
        milliseconds, rate = formats.milliseconds, formats.rate
        values = (
            (lately(rate, *found.events_per_s.values()), worker),
            (lately(_records, *found.lag.values()), worker),
            (lately(milliseconds, found.freshness_ms.p95), worker),
            (lately(rate, found.requests_per_s), server),
            (lately(milliseconds, found.latency_ms.p95), server),
            (lately(milliseconds, found.latency_ms.p99), server),
            (lately(rate, found.server_errors_per_s), server),
        )
        for figure, (value, at) in zip(self._figures.values(), values, strict=True):
            figure.show(value, at)
        for name, series in _series(found).items():
            self._charts[name].show(found.at, series, found)
        self._none.show(not found.routes)
        self._routes.root.set_visibility(bool(found.routes))
        self._routes.show({f"{each.method} {each.route}": _row(each) for each in found.routes})


_FIGURES = (
    ("Events applied", ""),
    ("Lag", ""),
    ("Freshness, p95", ""),
    ("Requests", ""),
    ("Time to answer, p95", ""),
    ("Time to answer, p99", ""),
    ("Server errors", "5xx"),
)
_ROUTE_HEADS = ("Route", "Requests", "4xx", "5xx", "p50", "p95", "p99")
_CHARTS = (
    ("events", "Events by topic", "Applied by workers.", "/s"),
    ("lag", "Lag by topic", "Records that workers have not come to yet.", "records"),
    ("freshness", "Freshness", "From a record's own time to its effects in Redis.", "ms"),
    ("latency", "Time to answer", "Requests, streams left out.", "ms"),
    ("requests", "Requests and errors", "All servers together.", "/s"),
    ("hit_rate", "HR@{k}, rolling", "Of the lists served, by version; dashed lines are swaps.", ""),
    ("ndcg", "NDCG@{k}, rolling", "Of the lists served, by version; dashed lines are swaps.", ""),
)


class _TimePanel:
    """A chart of series over time, which says so when there are none."""

    def __init__(self, visit: Visit, title: str, note: str, unit: str) -> None:
        """`title`: with `{k}` for how long the lists are that are judged."""
        named = title.format(k="k")
        self._panel = Panel(visit, named, note=note)
        self._panel.body.clear()
        with self._panel.body:
            self._none = Nothing("")
            self._chart = Chart(named, {"series": []}, unit=unit)
            self._chart.set_visibility(False)
        self._title, self._unit = title, unit

    def show(self, at: Sequence[float], series: Mapping[str, Series], found: Figures) -> None:
        """Draw the series, and the swaps where it is of quality."""
        there = {name: each for name, each in series.items() if any(v is not None for v in each)}
        title = self._title.format(k=found.quality.k)
        self._panel.rename(title)
        self._none.show(not there)
        self._chart.set_visibility(bool(there))
        if there:
            swaps = [(swap.at, swap.version) for swap in found.swaps] if not self._unit else []
            said = _said(title, there, self._unit, swaps)
            self._chart.set(_options(at, there, swaps), said)


def _said(
    title: str, series: Mapping[str, Series], unit: str, swaps: Sequence[tuple[float, str]]
) -> str:
    """Return what a chart shows for those who do not see it: the newest values, and the swaps."""
    newest = {name: [v for v in each if v is not None][-1] for name, each in series.items()}
    values = ", ".join(f"{name} {formats.plain(v)} {unit}".strip() for name, v in newest.items())
    swapped = "; ".join(version for _, version in swaps)
    return f"{title}. Newest: {values}." + (f" Swaps: {swapped}." if swapped else "")


def _options(
    at: Sequence[float], series: Mapping[str, Series], swaps: Sequence[tuple[float, str]]
) -> dict[str, Any]:
    lines = [
        {
            "type": "line",
            "name": name,
            "data": [None if value is None else float(f"{value:.4g}") for value in values],
            "showSymbol": sum(value is not None for value in values) < _FEW,
            "symbolSize": 5,
            "connectNulls": False,
            "lineStyle": {"width": 1.75},
        }
        for name, values in series.items()
    ]
    # A version's name is long, and all of it stands in the legend.
    inside = [
        (1_000 * when, name.rpartition("-")[2]) for when, name in swaps if at and at[0] <= when
    ]
    if inside:
        lines[0]["markLine"] = {
            "symbol": "none",
            "data": [{"xAxis": when, "name": name} for when, name in inside],
            "label": {"formatter": "{b}", "position": "insideEndTop", "fontSize": 10},
        }
    return {
        "still": True,
        "at": list(at),
        "xAxis": {"type": "time"},
        "yAxis": {"type": "value", "min": 0},
        "legend": {},
        "tooltip": {"trigger": "axis"},
        "series": lines,
    }


def _series(found: Figures) -> dict[str, Mapping[str, Series]]:
    quality = found.quality.by_label
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


def _row(route: RouteFigures) -> Sequence[Cell]:
    return (
        f"{route.method} {route.route}",
        formats.count(route.requests),
        formats.count(route.client_errors),
        Marked(formats.count(route.server_errors), "bad" if route.server_errors else ""),
        *(formats.milliseconds(each) for each in (route.p50_ms, route.p95_ms, route.p99_ms)),
    )


def lately(words: Callable[[float | None], str], *series: Series) -> str:
    """Return in words what the last values sum up to, or whether there were any before."""
    last = [value for each in series if (value := _last(each)) is not None]
    if not last and any(value is not None for each in series for value in each):
        return formats.NONE_LATELY
    return words(sum(last) if last else None)


def _records(lag: float | None) -> str:
    return formats.NO_DATA if lag is None else f"{formats.count(lag)} records"


def _last(values: Series) -> float | None:
    """Return the newest value there is among the newest steps; older ones are not of now."""
    return next((each for each in reversed(values[-_RECENT:]) if each is not None), None)


_RECENT = 3
"""Steps: the newest one is not over yet."""


def _build(visit: Visit) -> None:
    Live(visit).draw()


PAGE = Page("/live", "Live", "train", _build)
