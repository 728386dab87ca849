"""The page: figures of now, charts over a window, and requests by route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from console import formats
from console.pages.live.charts import KINDS, TimeChart, begin_of
from console.pages.live.newest import Series, newest
from console.visit import Page, Visit
from console.widgets.address import Address
from console.widgets.html import box, text
from console.widgets.parts import Field
from console.widgets.shared import Figure, Nothing, Panel
from console.widgets.table import Cell, LiveTable, Marked
from headrace_client import HeadraceError
from headrace_client.types import Figures, RouteFigures

_NOW = "1h"
"""The window whose steps are short enough to be of now."""
_WINDOWS = {"1h": "Last hour", "1d": "Last day"}
_LOOK_S = 5.0
_ROUTE_HEADS = ("Route", "Requests", "4xx", "5xx", "p50", "p95", "p99")


class Live:
    """The state of one open page."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._address = Address(visit.query)
        asked = self._address.query.get("window")
        self._window = asked if asked in _WINDOWS else _NOW

    def draw(self) -> None:
        """Draw the page."""
        self._now = Panel(self._visit, "Now")
        with self._now.tools:
            self._step = text("", "muted")
            Field(
                "Window", kind="select", options=_WINDOWS, value=self._window,
                on_change=self._choose,
            )  # fmt: skip
        self._now.body.clear()
        with self._now.body:
            self._span = text("", "muted note", tag="p")
            with box("figures"):
                self._figures = [(Figure(each.name), each) for each in _FIGURES]
        with box("charts"):
            self._charts = [TimeChart(self._visit, kind) for kind in KINDS]
        routes = Panel(self._visit, "Requests by route", note="Over the window.")
        routes.body.clear()
        with routes.body:
            self._none = Nothing("No request has been answered within the window.")
            self._routes = LiveTable("Requests by route", _ROUTE_HEADS)
        self._routes.root.set_visibility(False)
        self._visit.every(_LOOK_S, self._look)

    async def _choose(self, window: str) -> None:
        self._window = window
        self._address.note({"window": "" if window == _NOW else window})
        await self._look()

    async def _look(self) -> None:
        window = self._window
        try:
            now = await self._visit.api.figures(window=_NOW)
            found = now if window == _NOW else await self._visit.api.figures(window=window)
        except HeadraceError as error:
            self._now.tell(self._visit.trouble(error))
            return
        self._now.tell(None)
        self._show_now(now)
        if window == self._window:
            self._show_window(found)

    def _show_now(self, now: Figures) -> None:
        self._span.set_text(
            f"Each is of the {formats.duration(now.step_s)} up to the time under it. Requests of "
            "open pages of the console count, too."
        )
        for figure, kind in self._figures:
            told_at = now.told_at.get(kind.told_by)
            found = newest(now.at, now.step_s, told_at, *kind.series(now))
            figure.show(found.words(kind.words), found.at)

    def _show_window(self, found: Figures) -> None:
        self._step.set_text(f"a point each {formats.duration(found.step_s)}, of the time up to it")
        since = begin_of(found)
        for chart in self._charts:
            chart.show(found, since)
        self._none.show(not found.routes)
        self._routes.root.set_visibility(bool(found.routes))
        self._routes.show({f"{each.method} {each.route}": _row(each) for each in found.routes})


@dataclass(frozen=True)
class _Kind:
    """What a figure is of."""

    name: str
    words: Callable[[float | None], str]
    told_by: str
    series: Callable[[Figures], Sequence[Series]]
    """Which of the figures it sums up."""


def _records(lag: float | None) -> str:
    return formats.NO_DATA if lag is None else f"{formats.count(lag)} records"


_FIGURES = (
    _Kind("Events applied", formats.rate, "worker", lambda of: [*of.events_per_s.values()]),
    _Kind("Lag", _records, "worker", lambda of: [*of.lag.values()]),
    _Kind("Freshness, p95", formats.milliseconds, "worker", lambda of: [of.freshness_ms.p95]),
    _Kind("Requests", formats.rate, "server", lambda of: [of.requests_per_s]),
    _Kind("Time to answer, p95", formats.milliseconds, "server", lambda of: [of.latency_ms.p95]),
    _Kind("Time to answer, p99", formats.milliseconds, "server", lambda of: [of.latency_ms.p99]),
    _Kind("Server errors, 5xx", formats.rate, "server", lambda of: [of.server_errors_per_s]),
)


def _row(route: RouteFigures) -> Sequence[Cell]:
    return (
        f"{route.method} {route.route}",
        formats.count(route.requests),
        formats.count(route.client_errors),
        Marked(formats.count(route.server_errors), "bad" if route.server_errors else ""),
        *(formats.milliseconds(each) for each in (route.p50_ms, route.p95_ms, route.p99_ms)),
    )


def _build(visit: Visit) -> None:
    Live(visit).draw()


PAGE = Page("/live", "Live", "train", _build)
