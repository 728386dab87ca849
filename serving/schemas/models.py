"""Models, their versions, and how these fare."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from headrace.versions import LiveVersion


class Model(Struct, frozen=True):
    """A model, and which of its versions is live."""

    id: str
    live: LiveVersion | None
    pinned: str | None = None
    """The version that stays live until somebody puts another one live."""
    rollback: str | None = None
    """The version that a rollback leads to."""
    deleted: bool = False
    """Whether the model was deleted; it is trained no more."""
    topics: tuple[str, ...] = ()
    """Where its events are in Kafka; none of one that is no longer among the settings' models."""


class ModelList(Struct, frozen=True):
    """Answer of `GET /v1/models`."""

    models: list[Model]


class Evaluation(Struct, frozen=True):
    """How lists fared with the users who were served them, in the window until now."""

    k: int
    events: int
    """Positive events after a list."""
    hit_rate: float
    """HR@k: the share of them whose item was among the list's first k."""
    ndcg: float
    """NDCG@k: as that, a hit at rank r counting 1 / log2(1 + r)."""
    window_s: float


class VersionList(Struct, frozen=True):
    """Answer of `GET /v1/models/{model_id}/versions`, newest first."""

    versions: list[dict[str, Any]]
    trending: Evaluation | None = None
    """How lists fared that were no version's: trending and popular items."""
