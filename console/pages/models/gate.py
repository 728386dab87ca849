"""The gate's verdict: in words, and the interval of the difference as a picture with its axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from console import formats
from console.widgets.html import Tag, box, text

_SPAN = 0.05
"""The picture shows differences of at least so much to either side."""
_WIDTH = 240.0
"""Of the axis, in the picture's own units."""


def draw_verdict(verdict: Mapping[str, Any]) -> None:
    """Draw a verdict; of one that had nothing to measure on there are words alone."""
    with box("gate"):
        text(verdict["reason"], tag="p")
        if verdict["events"]:
            _draw_interval(verdict)


def _draw_interval(verdict: Mapping[str, Any]) -> None:
    """Draw the interval round nothing changed: zero is in the middle."""
    low, high, middle = verdict["low"], verdict["high"], verdict["difference"]
    tolerance = verdict["tolerance"]
    span: float = max(_SPAN, abs(low), abs(high), abs(middle), tolerance)

    def x(value: float) -> float:
        return _WIDTH / 2 * (1 + value / span)

    kind = "good" if low > 0 else "bad" if high < 0 else ""
    picture = Tag("svg", f"interval {kind}", role="img", aria_label=_said(verdict))
    picture.attribute("viewBox", f"-32 0 {_WIDTH + 64:.0f} 36")
    with picture:
        Tag("line", "axis", x1=0, x2=_WIDTH, y1=10, y2=10)
        Tag("line", "axis", x1=x(0), x2=x(0), y1=2, y2=18)
        Tag("line", "tolerance", x1=x(-tolerance), x2=x(-tolerance), y1=0, y2=20)
        Tag("line", "range", x1=x(low), x2=x(high), y1=10, y2=10)
        Tag("circle", "", cx=x(middle), cy=10, r=4)
        for value in (-span, 0.0, span):
            words = f"{formats.points(value)} %" if value else "0 %"
            Tag("text", "", words, x=x(value), y=32, text_anchor="middle")
    text(
        "The dot is the measured difference in NDCG@10, the bar its 95 % interval. The gate "
        f"rejects where the dot is left of the dashed line, at {formats.points(-tolerance)} %, and "
        "all of the bar left of 0. It measures on what is newer than what either version was "
        "fitted to; the version's own figures are of all of its hold-out.",
        "muted legend",
        tag="p",
    )


def _said(verdict: Mapping[str, Any]) -> str:
    low, high, middle = verdict["low"], verdict["high"], verdict["difference"]
    return (
        f"NDCG@10 {formats.points(middle)} % to {verdict['against']}, 95 % interval "
        f"{formats.points(low)} % to {formats.points(high)} %, "
        f"tolerance {formats.share(verdict['tolerance'])}"
    )
