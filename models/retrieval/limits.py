"""What a request allows in its answer, of the items there are."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from models.retrieval.filters import Filter


class Limits(Struct, frozen=True):
    """The request's own limits. They choose among scores, and change none."""

    exclude: Collection[str] = ()
    """Items that the request leaves out."""
    filter: Filter | None = None

    def __bool__(self) -> bool:
        """Return whether anything is left out."""
        return bool(self.exclude) or self.filter is not None


NO_LIMITS = Limits()
