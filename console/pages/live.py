"""Live: what goes through the system, how fast it answers, and how good the lists are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from console import formats
from console.visit import Page, Visit
from console.widgets.html import Tag, box, text
from console.widgets.parts import Chart, Field
from console.widgets.shared import Panel, figure, no_data
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

    def draw(self) -> None:
        """Draw the page."""
        self._now = Panel(self._visit, "Now")
        with self._now.tools:
            self._step = text("", "muted")
            Field("Window", kind="select", options=_WINDOWS, value="1h", on_change=self._choose)
        with box("charts"):
            for name, title, note, unit in _CHARTS:
                self._charts[name] = _TimePanel(self._visit, title, note, unit)
        self._routes = Panel(self._visit, "Requests by route", note="Over the window.")
        self._visit.every(_LOOK_S, self._look)

    async def _choose(self, window: str) -> None:
        self._window = window
        await self._look()

    async def _look(self) -> None:
        window = self._window
        found = await self._now.show(lambda: self._visit.api.figures(window=window), self._draw_now)
        if found is None or window != self._window:
            return
        self._step.set_text(f"a point each {formats.duration(found.step_s)}")
        for name, series in _series(found).items():
            self._charts[name].show(found.at, series, found)
        await self._routes.show(lambda: _ready(found.routes), _draw_routes)

    def _draw_now(self, found: Figures) -> None:
        worker, server = found.told_at.get("worker"), found.told_at.get("server")
        events, lag = (_sum_of_last(each.values()) for each in (found.events_per_s, found.lag))
        records = formats.NO_DATA if lag is None else f"{formats.count(lag)} records"
        fresh = _lately(found.freshness_ms.p95)
        errors = formats.rate(_last(found.server_errors_per_s))
        with box("figures"):
            figure("Events applied", formats.rate(events), at=worker)
            figure("Lag", records, at=worker)
            figure("Freshness, p95", fresh, at=worker)
            figure("Requests", formats.rate(_last(found.requests_per_s)), at=server)
            for name in ("p95", "p99"):
                within = _lately(getattr(found.latency_ms, name))
                figure(f"Time to answer, {name}", within, at=server)
            figure("Server errors", errors, at=server, note="5xx")


_CHARTS = (
    ("events", "Events by topic", "Applied by workers.", "/s"),
    ("lag", "Lag by topic", "Records that workers have not come to yet.", "records"),
    ("freshness", "Freshness", "From a record's own time to its effects in Redis.", "ms"),
    ("latency", "Time to answer", "Requests, streams left out.", "ms"),
    ("requests", "Requests and errors", "All servers together.", "/s"),
    ("hit_rate", "HR@10, rolling", "Of the lists served, by version; dashed lines are swaps.", ""),
    ("ndcg", "NDCG@10, rolling", "Of the lists served, by version; dashed lines are swaps.", ""),
)


class _TimePanel:
    """A chart of series over time, which says so when there are none."""

    def __init__(self, visit: Visit, title: str, note: str, unit: str) -> None:
        self._panel = Panel(visit, title, note=note)
        self._panel.body.clear()
        with self._panel.body:
            self._none = box()
            with self._none:
                no_data("")
            self._chart = Chart(title, {"series": []}, unit=unit)
            self._chart.set_visibility(False)
        self._title, self._unit = title, unit

    def show(self, at: Sequence[float], series: Mapping[str, Series], found: Figures) -> None:
        """Draw the series, and the swaps where it is of quality."""
        there = {name: each for name, each in series.items() if any(v is not None for v in each)}
        self._none.set_visibility(not there)
        self._chart.set_visibility(bool(there))
        if there:
            swaps = [(swap.at, swap.version) for swap in found.swaps] if not self._unit else []
            said = _said(self._title, there, self._unit, swaps)
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


def _draw_routes(routes: Sequence[RouteFigures]) -> None:
    if not routes:
        no_data("No request has been answered within the window.")
        return
    heads = ("Route", "Requests", "4xx", "5xx", "p50", "p95", "p99")
    region = box("scroll", tabindex="0", role="region", aria_label="Table of routes")
    with region, Tag("table", "table"):
        with Tag("thead"), Tag("tr"):
            for head in heads:
                Tag("th", "", head, scope="col")
        with Tag("tbody"):
            for route in routes:
                _draw_route(route)


def _draw_route(route: RouteFigures) -> None:
    with Tag("tr"):
        Tag("th", "mono", f"{route.method} {route.route}", scope="row")
        Tag("td", "", formats.count(route.requests))
        Tag("td", "", formats.count(route.client_errors))
        Tag("td", "bad" if route.server_errors else "", formats.count(route.server_errors))
        for value in (route.p50_ms, route.p95_ms, route.p99_ms):
            Tag("td", "", formats.milliseconds(value))


def _lately(series: Series) -> str:
    """Return the last of some milliseconds in words, which tell whether there were any before."""
    last = _last(series)
    if last is None and any(value is not None for value in series):
        return "none lately"
    return formats.milliseconds(last)


def _last(values: Series) -> float | None:
    """Return the newest value there is among the newest steps; older ones are not of now."""
    return next((each for each in reversed(values[-_RECENT:]) if each is not None), None)


def _sum_of_last(series: Any) -> float | None:
    found = [value for values in series if (value := _last(values)) is not None]
    return sum(found) if found else None


_RECENT = 3
"""Steps: the newest one is not over yet."""


async def _ready(value: Any) -> Any:
    return value


def _build(visit: Visit) -> None:
    Live(visit).draw()


PAGE = Page("/live", "Live", "train", _build)
