"""How often an item was met over time: a chart, and which time that is."""

from __future__ import annotations

from datetime import datetime, timezone

from console import formats
from console.widgets.html import text
from console.widgets.parts import Chart
from console.widgets.shared import no_data
from headrace_client.types import ItemPopularity

_DAY_S = 86_400


def draw_popularity(found: ItemPopularity) -> None:
    """Draw a history, and say which time it is of: there may be events from before that."""
    if not found.at:
        no_data("There have been no events yet.")
        return
    window = told_of_window(found)
    if not any(found.events):
        no_data(f"{window}: it was not met then, or too seldom to be counted.")
        return
    text(f"{window}.", "muted note", tag="p")
    options = {
        "still": True,
        "at": found.at,
        "useUTC": _step(found) == "day",
        "xAxis": {"type": "time"},
        "yAxis": {"type": "value", "min": 0, "minInterval": 1},
        "tooltip": {"trigger": "axis"},
        "series": [{"type": "bar", "name": "events", "data": found.events, "barMaxWidth": 24}],
    }
    total = formats.events(sum(found.events))
    Chart(f"Popularity: {total} over {len(found.at)} {_step(found)}s", options)


def told_of_window(found: ItemPopularity) -> str:
    """Return which time a history is of, which ends with the newest event of any item."""
    step, count = _step(found), len(found.at)
    written = "%Y-%m-%d" if step == "day" else "%Y-%m-%d %H:%M"
    begin, end = (datetime.fromtimestamp(at, timezone.utc) for at in (found.at[0], found.at[-1]))
    if count == 1:
        return f"Of the {step} of the newest event of any item, {end:{written}} UTC"
    return (
        f"Of the {count} {step}s up to the newest event of any item, "
        f"{begin:{written}} to {end:{written}} UTC"
    )


def _step(found: ItemPopularity) -> str:
    return "day" if found.step_s == _DAY_S else "hour"
