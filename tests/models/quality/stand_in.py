"""A model whose answer is obvious: after item n it recommends item n + 1, then n + 2, and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.events import KINDS, EventColumns
from models.training.quality.model import Lesson, Lists, Live, Point
from models.training.quality.queries import Queries


class NextItem:
    """Scores item n + d after item n with 1 / d; learns nothing but what there is to rank."""

    chosen_on = "nothing"

    def __init__(self, seed: int) -> None:
        self.parameters: dict[str, Any] = {"width": 1}
        self.chosen: dict[str, Any] = {"share": seed / 10}
        self.seed = seed
        self.lessons: list[Lesson] = []

    def fit(self, lesson: Lesson, tell: Callable[[Point], None]) -> None:
        self.lessons.append(lesson)
        figures = {"loss": 1.0, "ndcg_at_10": 0.5, "hr_at_10": 0.5, "recall_at_20": 0.5}
        tell(Point(1.0, 1, 1, figures, lesson.number))

    def towers(self, queries: Queries) -> NDArray[np.float32]:
        items = self.lessons[-1].items
        last = queries.item[np.maximum(queries.end - 1, 0)]
        distance = (np.arange(items) - last[:, None] - 1) % items + 1
        return (1 / distance).astype(np.float32)

    def product(self, queries: Queries, k: int, live: Live | None = None) -> Lists:
        scores = self.towers(queries)
        items = np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)
        return Lists(items, np.take_along_axis(scores, items, axis=1))


def log(*events: tuple[int, int], items: int | None = None) -> EventColumns:
    """Events of (user, item), in time order, a second apart."""
    user, item = np.array(events, np.int32).reshape(-1, 2).T
    count = items or int(item.max()) + 1
    return EventColumns(
        user=user,
        item=item,
        timestamp=np.arange(len(user), dtype=np.float64),
        kind=np.full(len(user), KINDS.index("click"), np.int8),
        rating=np.full(len(user), np.nan, np.float32),
        user_ids=tuple(f"u{n}" for n in range(int(user.max(initial=-1)) + 1)),
        item_ids=tuple(f"i{n}" for n in range(count)),
        through={},
    )


def ring(users: int, steps: int, items: int = 24) -> EventColumns:
    """Users who walk round a ring of items, all at the same pace, from where their number is."""
    return log(
        *((user, (7 * user + step) % items) for step in range(steps) for user in range(users)),
        items=items,
    )
