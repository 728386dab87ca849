"""The map of the live version's items, coloured by category: what the model has learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from nicegui.events import GenericEventArguments

from console import formats
from console.visit import Visit
from console.widgets.html import text
from console.widgets.parts import Chart
from console.widgets.shared import Panel, no_data
from headrace_client import NotFound
from headrace_client.types import ItemMap

_SHOWN = 2_000
_COLOURS = 5
"""Categories with a colour of their own, the most frequent ones."""
_OTHER = "other"
_LOOK_S = 30.0


class MapPanel:
    """The live version's items."""

    def __init__(self, visit: Visit, choose: Callable[[str | None], object]) -> None:
        self._visit = visit
        self._choose = choose
        self._panel = Panel(
            visit, "Map", note="Of the item vectors: alike is near. A click shows the item."
        )
        visit.every(_LOOK_S, self._look)

    async def _look(self) -> None:
        await self._panel.show(self._read, self._draw)

    async def _read(self) -> ItemMap | str:
        """Return the map, or why there is none."""
        server = await self._visit.api.ready()
        if server.model is None and server.refused is None:
            # What is known not to be there is not asked for: that would count as an error.
            return f"Model {server.model_id} has no live version. The first training makes one."
        try:
            return await self._visit.api.item_map(server.model_id, limit=_SHOWN)
        except NotFound as error:
            return error.problem.detail

    def _draw(self, found: ItemMap | str) -> None:
        if isinstance(found, str):
            no_data(found)
            return
        shown = formats.count(len(found.ids))
        text(words_of(found), "muted note", tag="p")
        label = f"Map of {shown} items in two dimensions, coloured by category"
        chart = Chart(label, _options(found))
        chart.classes("map")
        chart.on("point", self._point)

    def _point(self, event: GenericEventArguments) -> object:
        data = event.args.get("data") if isinstance(event.args, dict) else None
        if isinstance(data, dict) and isinstance(data.get("id"), str):
            return self._choose(data["id"])
        return None


def words_of(found: ItemMap) -> str:
    """Return what the map shows, and what it leaves out."""
    version, shown = found.model.version, formats.count(len(found.ids))
    if len(found.ids) == found.count:
        which = f"All {shown} items of {version}"
    else:
        known = formats.count(found.count)
        which = f"{shown} of {known} items of {version}, the most popular of late"
    differences = formats.share(found.explained, 0)
    return (
        f"{which}, each in the colour of its first category; the map shows {differences} of what "
        "they differ by."
    )


def _options(found: ItemMap) -> dict[str, Any]:
    counts = Counter(each for each in found.categories if each is not None)
    named = [category for category, _ in counts.most_common(_COLOURS)]
    points: dict[str, list[dict[str, Any]]] = {name: [] for name in (*named, _OTHER)}
    rows = zip(found.ids, found.titles, found.categories, found.x, found.y, strict=True)
    for item_id, title, category, x, y in rows:
        point = {"value": [x, y], "name": title or item_id, "id": item_id}
        points[category if category in named else _OTHER].append(point)
    axis = {
        "type": "value",
        "scale": True,
        "axisLabel": {"show": False},
        "splitLine": {"show": False},
        "axisLine": {"show": False},
    }
    return {
        "still": True,
        "xAxis": axis,
        "yAxis": axis,
        "legend": {},
        "tooltip": {"trigger": "item", "formatter": "{b}\n{a}"},
        "series": [
            {
                "type": "scatter",
                "name": name,
                "data": data,
                "symbolSize": 7,
                "itemStyle": {"opacity": 0.75},
            }
            for name, data in points.items()
            if data
        ],
    }
