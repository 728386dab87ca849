"""Two charts as inline SVG: lines over the stream, and a histogram.

Written out rather than drawn by a library: inline SVG takes its colours from the page's style
sheet, so that one drawing suits light and dark, needs no script and weighs a few kilobytes. The
libraries tried for it weigh megabytes (plotly) or fix the colours (matplotlib).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

WIDTH, HEIGHT = 860, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 30, 46
_POINTS = 430
"""Of a line: one every two units of width."""
_BINS = 60
_END = 'text-anchor="end"'
_CHARACTER = 6.2
"""Width of one character of a label, about."""


class Line(Struct, frozen=True):
    """A line of a chart; `style` is its class in the page's style sheet."""

    name: str
    style: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


class Mark(Struct, frozen=True):
    """An upright line with a label: something that happened, or a percentile."""

    x: float
    label: str


class _Scale(Struct, frozen=True):
    """From values to the drawing's units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start + share * (self.end - self.start), 1)


def line_chart(
    title: str,
    description: str,
    lines: Sequence[Line],
    marks: Sequence[Mark],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Return the lines over one another, y from 0 on."""
    x = _across(min(line.x[0] for line in lines), max(line.x[-1] for line in lines))
    ticks = nice_ticks(0.0, max(float(line.y.max()) for line in lines))
    y = _upward(ticks[-1])
    body = [
        *_y_axis(ticks, y, y_label, "{:.2f}".format),
        *_x_axis(nice_ticks(x.low, x.high, 8), x, x_label, "{:,.0f}".format),
        *_marks([mark for mark in marks if x.low <= mark.x <= x.high], x),
        *(_path(line, x, y) for line in lines),
    ]
    return _svg(title, description, body)


def histogram(title: str, description: str, values: NDArray[np.float64], *, x_label: str) -> str:
    """Return how often values occur, with the median and the 99th percentile marked.

    The slowest half per cent would press the rest together: they are counted in the last bar.
    """
    p50, p99, end = (float(value) for value in np.percentile(values, (50, 99, 99.5)))
    x = _across(0.0, nice_ticks(0.0, max(end, 0.001), 10)[-1])
    counts, edges = np.histogram(np.minimum(values, x.high), bins=_BINS, range=(0.0, x.high))
    ticks = nice_ticks(0.0, float(counts.max()))
    y = _upward(ticks[-1])
    body = [
        *_y_axis(ticks, y, "count", "{:,.0f}".format),
        *_x_axis(nice_ticks(0.0, x.high, 10), x, x_label, "{:g}".format),
        *(
            f'<rect class="bar" x="{x(left) + 0.5:.1f}" y="{y(count)}" '
            f'width="{max(x(right) - x(left) - 1, 0.5):.1f}" height="{y(0) - y(count):.1f}"/>'
            for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
            if count
        ),
        *_marks([Mark(p50, f"p50 {p50:.1f} ms"), Mark(p99, f"p99 {p99:.1f} ms")], x),
    ]
    return _svg(title, description, body)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers from `low` on, the last one at or above `high`."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if span / (power * unit) <= count)
    first = math.floor(low / step)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(tick * step, 10) for tick in range(first, last + 1)]


def _across(low: float, high: float) -> _Scale:
    return _Scale(float(low), float(high), _LEFT, WIDTH - _RIGHT)


def _upward(high: float) -> _Scale:
    return _Scale(0.0, high, HEIGHT - _BOTTOM, _TOP)


def _y_axis(
    ticks: Sequence[float], y: _Scale, label: str, text: Callable[[float], str]
) -> list[str]:
    rows = [f'<text class="label" x="{_LEFT - 8}" y="{_TOP - 14}" {_END}>{escape(label)}</text>']
    for tick in ticks:
        at = y(tick)
        rows += (
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>',
            f'<text class="tick" x="{_LEFT - 8}" y="{at + 4}" {_END}>{text(tick)}</text>',
        )
    return rows


def _x_axis(
    ticks: Sequence[float], x: _Scale, label: str, text: Callable[[float], str]
) -> list[str]:
    base = HEIGHT - _BOTTOM
    inside = [tick for tick in ticks if x.low <= tick <= x.high]
    rows = [
        f'<text class="tick" x="{x(tick)}" y="{base + 18}" text-anchor="middle">{text(tick)}</text>'
        for tick in inside
    ]
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    rows.append(
        f'<text class="label" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(label)}</text>"
    )
    return rows


def _marks(marks: Sequence[Mark], x: _Scale) -> list[str]:
    rows = []
    for mark in marks:
        at = x(mark.x)
        # A label that would leave the drawing stands to the left of its line.
        fits = at + 8 + _CHARACTER * len(mark.label) < WIDTH
        side, anchor = (6, "start") if fits else (-6, "end")
        rows.append(
            f'<line class="mark" x1="{at}" x2="{at}" y1="{_TOP - 8}" y2="{HEIGHT - _BOTTOM}"/>'
            f'<text class="mark-label" x="{at + side:.1f}" y="{_TOP - 2}" '
            f'text-anchor="{anchor}">{escape(mark.label)}</text>'
        )
    return rows


def _path(line: Line, x: _Scale, y: _Scale) -> str:
    places = np.unique(np.linspace(0, len(line.x) - 1, _POINTS).astype(np.int64))
    points = " ".join(f"{x(line.x[place])},{y(line.y[place])}" for place in places)
    return (
        f'<polyline class="line {line.style}" points="{points}"><title>{escape(line.name)}</title>'
        "</polyline>"
    )


def _svg(title: str, description: str, body: Sequence[str]) -> str:
    return (
        f'<div class="wide"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join(body)}</svg></div>"
    )
