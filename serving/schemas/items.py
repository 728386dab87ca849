"""Items of the catalogue, how often they are met, and where they lie."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from headrace.catalog import Item, ShortText
from headrace.events import Context
from serving.schemas.recommendations import ModelInfo


class ItemBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `PUT /v1/items/{id}`."""

    title: Annotated[str, Meta(max_length=1_024)] | None = None
    categories: Annotated[tuple[ShortText, ...], Meta(max_length=64)] = ()
    price: Annotated[float, Meta(ge=0)] | None = None
    attributes: Context = {}


class FoundItems(Struct, frozen=True):
    """Answer of `GET /v1/items`."""

    count: int
    """Of all that match."""
    offset: int
    """How many of them come before these."""
    items: list[Item]
    categories: dict[str, int]
    """How many of all that match have each category, the 500 most frequent ones first; empty where
    items are asked for by id."""


class ItemsAccepted(Struct, frozen=True):
    """Answer to a change of the catalogue, which Kafka has acknowledged."""

    accepted: int


class ItemPopularity(Struct, frozen=True):
    """Answer of `GET /v1/items/{id}/popularity`."""

    item_id: str
    step_s: int
    at: list[int]
    """When each step begins, in Unix seconds, oldest first; empty before there were events."""
    events: list[int]
    """Events of the item in each step, by their own time."""


class ItemMap(Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/models/{id}/map`, the most popular items of late first."""

    model: ModelInfo
    explained: float
    """The share, 0 to 1, of what the vectors differ by that the map shows."""
    count: int
    """Items that the version has; those that were deleted since are left out."""
    ids: list[str]
    titles: list[str | None]
    categories: list[str | None]
    """The first one of each item."""
    x: list[float]
    y: list[float]
