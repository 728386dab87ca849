"""What the protocols ask of a model, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.events import EventColumns
from models.training.quality.queries import Queries

ProtocolMode = Literal["protocol", "full", "incremental"]
"""How a model goes from lesson to lesson: as the protocol has it, anew each time, or onward."""


@dataclass(frozen=True)
class Point:
    """How far a training had come at one moment: an epoch's end, or a period's."""

    seconds: float
    """Of training so far."""
    epoch: int
    """From 1; a training that goes on with all events counts anew."""
    epochs: int
    figures: dict[str, float]
    """`loss`; on validation, `ndcg_at_10` and others by their names in the report."""
    part: int = 0
    """Which period or retraining it belongs to."""


@dataclass(frozen=True)
class Lesson:
    """What a model is to learn from next, going on from where it stands."""

    log: EventColumns
    """What is new since the lesson before; on the stream, all so far. Items keep their codes."""
    past: EventColumns | None
    """All before that is not in `log`, to be gone through again; None where there is none."""
    validation: Queries | None
    """What may be chosen by; None where nothing is to be chosen any more."""
    items: int
    """To rank: those with codes below this."""
    seen_stay: bool
    """Whether the session's own items may be recommended."""
    number: int = 0
    held_back: EventColumns | None = None
    """The events of validation, to learn from once all is chosen; None where that is not to be."""


@dataclass(frozen=True)
class Lists:
    """What was recommended: n lists of up to k items, best first."""

    items: NDArray[np.int32]
    """`[n, k]`; -1 where a list is shorter."""
    scores: NDArray[np.float32]
    """`[n, k]`, each the probability in [0, 1] that the product serves with the item."""

    def first(self, k: int) -> Lists:
        """Return the best k items of each list."""
        return Lists(self.items[:, :k], self.scores[:, :k])


@dataclass(frozen=True)
class Live:
    """What rules have learned since the last lesson, for a model that keeps them per event."""

    previous: NDArray[np.int64]
    """`[n, steps]`: before each query's target, the user's last items, newest first, -1 for none.

    The transitions of query q are known to query q + 1, never to q itself.
    """


class Model(Protocol):
    """The towers, and the product that blends rules in with them. One seed, one model."""

    @property
    def parameters(self) -> dict[str, Any]:
        """With what it was trained, as built-in types: the same for every seed."""

    @property
    def chosen(self) -> dict[str, Any]:
        """What it chose by itself, as built-in types."""

    @property
    def chosen_on(self) -> str:
        """What was chosen, and on which part of the data, in words."""

    def fit(self, lesson: Lesson, tell: Callable[[Point], None]) -> None:
        """Learn a lesson; `tell` is told of each epoch."""

    def towers(self, queries: Queries) -> NDArray[np.float32]:
        """Return `[n, items]` scores of the towers alone; an item that has none scores -inf."""

    def product(self, queries: Queries, k: int, live: Live | None = None) -> Lists:
        """Return the k best items for each session, rules blended in, as they are served.

        What the lesson says of seen items holds. With `live`, the queries follow one another in
        time, and the rules learn each of them after it was answered.
        """


Build = Callable[[int], Model]
"""Gives the untrained model of a seed."""


@dataclass
class Curve:
    """The points told of one model's training."""

    seed: int
    points: list[Point] = field(default_factory=list)
