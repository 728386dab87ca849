"""What the terminal shows while the demo runs: a page that is redrawn, or a line now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from headrace.local.demo.figures import ROLLING, Figures, Rate, mean, percentile, rolling_mean
from headrace.local.parts import PartStatus

_REDRAWN_EVERY_S = 0.25
_UPPER_LINES, _LOWER_LINES = 8, 7
"""With the frame: the page fits into the 24 lines of the smallest terminal."""
_LINE_EVERY_S = 5.0
_WIDEST = 120
_BARS = "▁▂▃▄▅▆▇█"
_STATE_STYLES = {"ready": "green", "starting": "yellow", "waiting": "dim", "restarting": "red"}
_BASELINE_STYLES = {"popularity": "yellow", "rules": "magenta", "knn": "green"}

Parts = Callable[[], Sequence[PartStatus]]


async def show(figures: Figures, parts: Parts, console: Console, *, redraw: bool) -> None:
    """Show the figures until cancelled: a page redrawn in place, or a line every few seconds."""
    screen = Screen(figures, parts, time.monotonic())
    if redraw:
        await _redraw(screen, console)
    else:
        await _print_lines(screen, figures, console)


async def _redraw(screen: Screen, console: Console) -> None:
    # The echo of Ctrl-C behind a full last line would move the page down.
    width = min(console.width - 1, _WIDEST)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Constrain(screen.render(time.monotonic()), width), refresh=True)
            await asyncio.sleep(_REDRAWN_EVERY_S)


async def _print_lines(screen: Screen, figures: Figures, console: Console) -> None:
    told, told_at = "", 0.0
    while True:
        now = time.monotonic()
        screen.update(now)
        if figures.phase != told or now - told_at >= _LINE_EVERY_S:
            console.print(screen.line(now), highlight=False, markup=False, soft_wrap=True)
            told, told_at = figures.phase, now
        await asyncio.sleep(_REDRAWN_EVERY_S)


class Screen:
    """Draws the figures as they are at the moment."""

    def __init__(self, figures: Figures, parts: Parts, started: float) -> None:
        self._figures = figures
        self._parts_now = parts
        self._started = started
        self._event_rate, self._request_rate = Rate(), Rate()
        self._events_per_s = self._requests_per_s = 0.0

    def update(self, now: float) -> None:
        """Take the rates anew; `now` in seconds of the clock that `started` was read from."""
        self._events_per_s = self._event_rate.update(now, self._figures.sent)
        self._requests_per_s = self._request_rate.update(now, len(self._figures.requests))

    def line(self, now: float) -> str:
        """Return everything that matters in one line of text."""
        figures = self._figures
        parts = [f"{_clock(now - self._started)}  {figures.phase}"]
        if figures.sent:
            parts.append(f"{figures.sent:,} events sent, {self._events_per_s:,.0f}/s")
            parts.append(f"lag {figures.lag:,}")
        if len(figures.requests):
            parts.append(f"{self._requests_per_s:,.0f} requests/s")
            parts.append(f"request p99 {_ms(percentile(figures.requests.recent(), 99))}")
            parts.append(f"freshness p50 {_ms(percentile(figures.freshness.recent(), 50))}")
            parts.append(
                f"HR@10 {_share(mean(figures.hits.model()))} "
                f"(popularity {_share(mean(figures.hits.baseline('popularity')))}, "
                f"rules {_share(mean(figures.hits.baseline('rules')))}, "
                f"kNN {_share(mean(figures.hits.baseline('knn')))})"
            )
        running = next((task for task in figures.tasks if task.status == "RUNNING"), None)
        if running:
            parts.append(f"training {running.progress:.0%}, {running.step}")
        return " · ".join(parts)

    def render(self, now: float) -> RenderableType:
        """Return the page."""
        self.update(now)
        upper = _beside(
            _UPPER_LINES,
            ("Parts", self._parts(), 4),
            ("Stream", self._stream(), 5),
            ("Serving", self._serving(), 6),
        )
        return Group(
            self._head(now),
            upper,
            Panel(self._hits(), title="HR@10", title_align="left"),
            _beside(
                _LOWER_LINES,
                ("Model versions", self._versions(), 7),
                ("Training", self._training(), 5),
            ),
        )

    def _head(self, now: float) -> RenderableType:
        head = Table.grid(expand=True)
        head.add_column()
        head.add_column(justify="right")
        head.add_row(
            Text.assemble(("Headrace", "bold cyan"), "  ", (self._figures.phase, "bold")),
            Text(f"{_clock(now - self._started)}   Ctrl-C ends it", style="dim"),
        )
        return head

    def _parts(self) -> RenderableType:
        table = _pairs()
        for part in self._parts_now():
            state = part.state + (f", {part.restarts} restarts" if part.restarts else "")
            table.add_row(part.name, Text(state, style=_STATE_STYLES.get(part.state, "")))
        return table

    def _stream(self) -> RenderableType:
        figures = self._figures
        table = _pairs()
        table.add_row("sent", f"{figures.sent:,}")
        table.add_row("applied", f"{figures.applied:,}")
        table.add_row("lag", f"{figures.lag:,}")
        table.add_row("events/s", f"{self._events_per_s:,.0f}")
        table.add_row(
            "", ProgressBar(total=max(figures.total, 1), completed=figures.sent, width=18)
        )
        return table

    def _serving(self) -> RenderableType:
        figures = self._figures
        requests, freshness = figures.requests.recent(), figures.freshness.recent()
        table = _pairs()
        table.add_row("requests/s", f"{self._requests_per_s:,.0f}")
        table.add_row("answer p50 p99", _two_ms(requests))
        table.add_row("fresh p50 p99", _two_ms(freshness))
        failed = figures.failed_requests
        table.add_row("failed", Text(str(failed), style="bold red" if failed else "green"))
        return table

    def _hits(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "right", "right", "left"):
            table.add_column(justify=justify)
        table.add_row("", "all so far", f"last {ROLLING:,}", "", style="dim")
        found = self._figures.hits
        lines = [("model", found.model(), "cyan")]
        lines += [(name, found.baseline(name), style) for name, style in _BASELINE_STYLES.items()]
        top = max(0.01, *(point for _, hits, _ in lines for point in _points(hits)))
        for name, hits, style in lines:
            table.add_row(
                Text(name, style=style),
                Text(_share(mean(hits)), style="bold"),
                _share(mean(hits[-ROLLING:])),
                Text(sparkline(_points(hits), top), style=style),
            )
        return table

    def _versions(self) -> RenderableType:
        if not self._figures.swaps:
            return Text("none yet: trending items are recommended", style="dim")
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("live at", "version"):
            table.add_column(name, no_wrap=True)
        for name in ("event", "trained", "HR@10"):
            table.add_column(name, justify="right", no_wrap=True)
        for swap in self._figures.swaps[-4:]:
            version = self._figures.version(swap.version)
            table.add_row(
                time.strftime("%H:%M:%S", time.localtime(swap.at)),
                Text(swap.version[-6:], style="cyan" if swap == self._figures.swaps[-1] else ""),
                f"{swap.sent:,}",
                f"{version.data.events:,}" if version else "",
                _share(version.metrics.get("hr_at_10")) if version else "",
            )
        return table

    def _training(self) -> RenderableType:
        rows: list[RenderableType] = []
        for task in self._figures.tasks[:3]:
            row = Table.grid(padding=(0, 1))
            for _ in range(3):
                row.add_column(no_wrap=True)
            row.add_column()
            bar = ProgressBar(total=1.0, completed=task.progress, width=6)
            step = Text(task.step, "dim", no_wrap=True, overflow="ellipsis")
            row.add_row(bar, f"{task.progress:4.0%}", task.status.lower(), step)
            rows.append(row)
        return Group(*rows) if rows else Text("none yet", style="dim")


def sparkline(values: Sequence[float], top: float) -> str:
    """Return the values as bars, `top` being the highest."""
    highest = len(_BARS) - 1
    return "".join(
        _BARS[min(max(int(value / top * highest + 0.5), 0), highest)] for value in values
    )


def _points(hits: NDArray[np.float64], count: int = 40) -> list[float]:
    """Return the rolling mean at up to `count` places, evenly spaced."""
    if not len(hits):
        return []
    places = np.unique(np.linspace(0, len(hits) - 1, count).astype(np.int64))
    # The first few events say nothing yet.
    return [float(value) for value in rolling_mean(hits)[places[places >= 50]]]


def _beside(height: int, *panels: tuple[str, RenderableType, int]) -> RenderableType:
    """Return panels of this height side by side, each a title, a body, a share of the width."""
    grid = Table.grid(expand=True)
    for _, _, share in panels:
        grid.add_column(ratio=share)
    grid.add_row(
        *(Panel(body, title=title, title_align="left", height=height) for title, body, _ in panels)
    )
    return grid


def _pairs() -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(style="dim")
    table.add_column(justify="right")
    return table


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _two_ms(values: NDArray[np.float64]) -> str:
    if not len(values):
        return "-"
    return f"{np.percentile(values, 50):.0f} {np.percentile(values, 99):.0f} ms"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
