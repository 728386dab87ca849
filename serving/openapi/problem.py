"""A problem document, as the OpenAPI document describes it."""

from __future__ import annotations

from msgspec import Struct

from headrace.tasks import Task
from headrace.tokens import TokenText
from serving.schemas.recommendations import RecommendationAnswer


class WrongField(Struct, frozen=True):
    """A field of a request, and what is wrong with it."""

    field: str
    """Empty when the whole is."""
    reason: str
    index: int | None = None
    """Which one of several it is about."""
    value: str | None = None
    """What was sent, cut short."""


class Problem(Struct, frozen=True):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[WrongField] = []
    code: str | None = None
    """`stale`: the session has not seen an event in time, of `after` or of those to be merged."""
    missing: list[TokenText] = []
    """Of `stale`: the tokens of the events not seen."""
    answer: RecommendationAnswer | None = None
    """Of `stale` recommendations: what there is without them."""
    task: Task | None = None
    """Of a model that is being trained already: that training."""
