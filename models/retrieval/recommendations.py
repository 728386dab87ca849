"""What a list of items is asked for with, and what comes back."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct

from headrace.sessions import Session
from models.retrieval.limits import NO_LIMITS, Limits


class ListRequest(Struct, frozen=True):
    """What a list is wanted for: the k best items for the session."""

    session: Session
    k: int
    exclude: Collection[str] = ()
    """Items that the user has met. A score is relative to all others."""
    limits: Limits = NO_LIMITS
    """They change no score."""


class Recommendations(Struct, frozen=True):
    """Items, best first; for `Retriever.score`, in the order asked for."""

    item_ids: list[str]
    scores: list[float]
    """In [0, 1]."""
    cold: list[bool]
    """Whether the item came after the training and is known by its features alone."""

    def at(self, places: Sequence[int]) -> Recommendations:
        """Return the items at these places, in their order."""
        return Recommendations(
            [self.item_ids[place] for place in places],
            [self.scores[place] for place in places],
            [self.cold[place] for place in places],
        )
