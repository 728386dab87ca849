"""A table whose cells change in place, so that what is focused or selected in it stays so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from console.widgets.html import Tag, box
from console.widgets.parts import Moment


@dataclass(frozen=True)
class At:
    """A cell that is a time."""

    at: float | None
    """Unix seconds; None: there is none."""


@dataclass(frozen=True)
class Marked:
    """A cell whose text stands out."""

    text: str
    kind: str
    """`bad`, or "" for one that does not."""


Cell = str | At | Marked


class LiveTable:
    """Rows by key; the first cell of each is its name."""

    def __init__(self, label: str, heads: Sequence[str]) -> None:
        """`label`: what the table is of, for screen readers."""
        self._rows: dict[str, _Row] = {}
        self.root = box("scroll", tabindex="0", role="region", aria_label=f"{label}, table")
        with self.root, Tag("table", "table"):
            with Tag("thead"), Tag("tr"):
                for head in heads:
                    Tag("th", "", head, scope="col")
            self._body = Tag("tbody")

    def show(self, rows: Mapping[str, Sequence[Cell]]) -> None:
        """Show these rows in their order, and no others."""
        for gone in self._rows.keys() - rows.keys():
            self._rows.pop(gone).root.delete()
        for nth, (key, cells) in enumerate(rows.items()):
            if key not in self._rows:
                with self._body:
                    self._rows[key] = _Row(cells)
            row = self._rows[key]
            row.show(cells)
            if self._body.default_slot.children[nth] is not row.root:
                row.root.move(target_index=nth)


class _Row:
    def __init__(self, cells: Sequence[Cell]) -> None:
        self._places: list[Tag | Moment] = []
        with Tag("tr") as self.root:
            for nth, cell in enumerate(cells):
                place = Tag("td") if nth else Tag("th", "mono", scope="row")
                if isinstance(cell, At):
                    with place:
                        self._places.append(Moment(cell.at))
                else:
                    self._places.append(place)

    def show(self, cells: Sequence[Cell]) -> None:
        """Show these values."""
        for place, cell in zip(self._places, cells, strict=True):
            if isinstance(place, Moment):
                place.set(cell.at if isinstance(cell, At) else None)
            elif isinstance(cell, Marked):
                place.set_text(cell.text).classes(replace=cell.kind)
            else:
                place.set_text(cell if isinstance(cell, str) else "")
