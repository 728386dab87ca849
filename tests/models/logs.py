"""Logs of events written down by hand."""

from __future__ import annotations

import numpy as np

from headrace.events import KINDS, EventColumns

CLICK, PURCHASE, RATING = (KINDS.index(kind) for kind in ("click", "purchase", "rating"))


def columns(rows: list[tuple[int, int, int, float]]) -> EventColumns:
    """Rows of (user, item, kind, rating), a second apart."""
    user, item, kind, rating = zip(*rows, strict=True)
    return EventColumns(
        user=np.array(user, np.int32),
        item=np.array(item, np.int32),
        timestamp=np.arange(len(rows), dtype=np.float64),
        kind=np.array(kind, np.int8),
        rating=np.array(rating, np.float32),
        user_ids=tuple(f"u{n}" for n in range(max(user) + 1)),
        item_ids=tuple(f"i{n}" for n in range(max(item) + 1)),
        through={},
    )
