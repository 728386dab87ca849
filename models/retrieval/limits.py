"""What a request allows in its answer, of the items there are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from models.retrieval.filters import Filter


@dataclass(frozen=True)
class Limits:
    """The request's own limits. They choose among scores, and change none."""

    exclude: Collection[str] = ()
    """Items that the request leaves out."""
    filter: Filter | None = None

    def __bool__(self) -> bool:
        """Return whether anything is left out."""
        return bool(self.exclude) or self.filter is not None


NO_LIMITS = Limits()
