"""What a protocol's run came to, before it is written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from models.training.metrics import Reliability
from models.training.quality.model import Curve, Model, Point

Figures = dict[str, float]


@dataclass
class Result:
    """The rows of a run; the models' have an entry for each seed."""

    protocol: str
    baselines: dict[str, Figures] = field(default_factory=dict)
    towers: list[Figures] = field(default_factory=list)
    product: list[Figures] = field(default_factory=list)
    parts: dict[str, list[Figures]] = field(default_factory=dict)
    """By row, the figures of each period or block of the stream; of the models' first seed.

    Those of a period without a query are empty.
    """
    curves: list[Curve] = field(default_factory=list)
    reliability: list[Reliability] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    """Those of the models, whatever their seed."""
    chosen: list[dict[str, Any]] = field(default_factory=list)
    """By seed: `seed`, and what its model chose."""
    chosen_on: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    """Events, items, queries."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the figures must know, in words."""

    def begin(self, seed: int) -> list[Point]:
        """Return where the points of this seed's training go."""
        curve = Curve(seed)
        self.curves.append(curve)
        return curve.points

    def end(self, model: Model, towers: Figures, product: Figures) -> None:
        """Take the figures of the seed that was begun last."""
        self.towers.append(towers)
        self.product.append(product)
        self.parameters = model.parameters
        self.chosen.append({"seed": self.curves[-1].seed, **model.chosen})
        self.chosen_on = model.chosen_on


def mean_of(parts: list[Figures]) -> Figures:
    """Return the mean of each figure over the parts that have figures; one has, at the least."""
    told = [part for part in parts if part]
    return {name: sum(part[name] for part in told) / len(told) for name in told[0]}
