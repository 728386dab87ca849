"""What is asked for, recommended, and told of it later."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

from msgspec import Meta, Struct

from headrace.events import ItemId, UserId
from headrace.impressions import Asked, Impression, ImpressionId
from headrace.sessions import Interaction
from headrace.tokens import TokenText
from serving.cursor import MAX_LENGTH


class RecommendationRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/recommendations`: `user_id` or `user_interactions`, never both."""

    user_id: UserId | None = None
    user_interactions: Annotated[dict[ItemId, Interaction], Meta(max_length=1_000)] | None = None
    """The session dictionary, instead of the one that the user has in Redis."""
    k: Annotated[int, Meta(ge=1, le=500)] = 10
    recommend_seen: bool = False
    """Whether items that the user has met may be recommended."""
    candidate_ids: Annotated[list[ItemId], Meta(max_length=10_000)] | None = None
    """Only these are ranked; one that is not known scores 0."""
    after: Union[TokenText, list[TokenText]] = []
    """Tokens of events that the user's session must have seen, or the answer is 409."""
    timeout_ms: Annotated[int, Meta(ge=0, le=10_000)] = 500
    """Longest wait for that, in milliseconds."""
    exclude_ids: Annotated[
        list[ItemId],
        Meta(max_length=10_000, description="Items that are left out."),
    ] = []
    filter: (
        Annotated[
            dict[str, Any],
            Meta(
                description="Which items may be recommended, by their fields: `eq`, `in`, `gt`, "
                "`gte`, `lt`, `lte`, `exists`, and of `categories` `any`, `all`; with `and`, `or`, "
                "`not`. Every member must hold. One on a field that an item has not does not hold.",
                examples=[{"categories": {"any": ["Comedy"]}, "price": {"gte": 5, "lt": 20}}],
            ),
        ]
        | None
    ) = None
    diversity: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="How much unlike each other the items are to be: 0 ranks by score alone, "
            "1 by unlikeness alone (maximal marginal relevance).",
        ),
    ] = 0.0
    cursor: (
        Annotated[
            str,
            Meta(
                max_length=MAX_LENGTH,
                description="The `cursor` of the page before: what that one and those before it "
                "showed is left out.",
            ),
        ]
        | None
    ) = None
    explain: Annotated[
        bool,
        Meta(description="Whether each item tells which interactions moved it, in `because`."),
    ] = False


_RANKING = "The version of the second stage that put the items in this order; null: none did."


class Reason(Struct, frozen=True):
    """An interaction that moved an item."""

    id: str
    """The item of the interaction."""
    effect: Annotated[
        float,
        Meta(
            description="The item's score, as retrieval has it, less what it would be without the "
            "interaction."
        ),
    ]


class Recommendation(Struct, frozen=True, omit_defaults=True):
    """One item of a list."""

    id: str
    score: float
    """The probability, in [0, 1], that it is among the user's next events and positive."""
    cold: bool = False
    """Whether it came after the training, and is known by its features alone."""
    because: Annotated[
        list[Reason],
        Meta(description="With `explain`: the interactions that moved it most, these first."),
    ] = []


class ModelInfo(Struct, frozen=True):
    """The version that a list came from."""

    id: str
    version: str


class SessionInfo(Struct, frozen=True):
    """The session that a list was made from."""

    interactions: int
    applied: int
    """Events applied so far."""
    updated_at: float | None
    """Unix seconds of the newest interaction."""
    marks: dict[str, int]
    """By `<topic>/<partition>`, the offset of the last event that the session knows."""


class RecommendationAnswer(Struct, frozen=True):
    """Answer of `POST /v1/recommendations`."""

    id: str
    recommendations: list[Recommendation]
    message: str | None
    """Says in words when the list is not what was asked for, and what it is instead."""
    model: ModelInfo | None
    session: SessionInfo
    cursor: Annotated[
        str | None,
        Meta(description="Asks for the next page; null when nothing is left to show."),
    ] = None
    ranking: Annotated[str | None, Meta(description=_RANKING)] = None


class ServedSession(Struct, frozen=True):
    """The session that a served list was made from."""

    interactions: int
    applied: int
    """Events applied by then."""
    updated_at: float | None
    """Unix seconds of the newest interaction."""
    marks: dict[str, int]
    """By `<topic>/<partition>`, the offset of the last event that the session knew."""
    newest: dict[str, Interaction]
    """Its ten newest interactions, which said most, the oldest first."""


class ServedList(Struct, frozen=True):
    """Answer of `GET /v1/recommendations/{id}`: a list that was served, and why."""

    id: ImpressionId
    user_id: UserId | None
    """None: the session came with the request."""
    served_at: float
    """Unix seconds."""
    by: Literal["request", "stream"]
    recommendations: list[Recommendation]
    message: str | None
    model: ModelInfo | None
    experiment: str | None
    """The A/B test that chose the version."""
    asked: Asked
    session: ServedSession
    ranking: Annotated[str | None, Meta(description=_RANKING)] = None

    @classmethod
    def of(cls, impression: Impression) -> ServedList:
        """Return an impression as it is shown."""
        state, newest = impression.session, impression.session.newest
        because = impression.because or ({},) * len(impression.item_ids)
        rows = zip(newest.timestamps, newest.ratings, newest.kinds, strict=True)
        interactions = [Interaction(at, rating, kind) for at, rating, kind in rows]
        return cls(
            id=impression.id,
            user_id=impression.user_id,
            served_at=impression.served_at,
            by=impression.by,
            recommendations=[
                Recommendation(
                    item_id,
                    score,
                    item_id in impression.cold,
                    [Reason(of, effect) for of, effect in effects.items()],
                )
                for item_id, score, effects in zip(
                    impression.item_ids, impression.scores, because, strict=True
                )
            ],
            message=impression.message,
            model=ModelInfo(impression.model_id, impression.version)
            if impression.version
            else None,
            experiment=impression.experiment,
            asked=impression.asked,
            ranking=impression.ranking,
            session=ServedSession(
                state.interactions,
                state.applied,
                state.updated_at,
                state.marks,
                dict(zip(newest.item_ids, interactions, strict=True)),
            ),
        )


class ItemList(Struct, frozen=True):
    """Items with scores: similar ones, ones bought together, trending ones."""

    items: list[Recommendation]
    message: str | None = None
