"""What requests hold and answers show."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import Meta, Struct

from headrace.catalog import Item, ShortText
from headrace.events import Context, ItemId, UserId
from headrace.impressions import Asked, Impression, ImpressionId
from headrace.keys import Scope
from headrace.replaying.queue import ReplayTask
from headrace.replaying.window import BEGINNING, NOW
from headrace.sessions import Interaction
from headrace.settings import ModelId, Name
from headrace.tasks import Task
from headrace.tokens import TokenText
from headrace.versions import LiveVersion
from serving.cursor import MAX_LENGTH
from serving.live_model import Refusal
from serving.user_tokens import MAX_LIFE_S, UserScope


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


class Reason(Struct, frozen=True):
    """An interaction that moved an item."""

    id: str
    """The item of the interaction."""
    effect: Annotated[
        float,
        Meta(description="The item's score less what it would be without the interaction."),
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


class AcceptedEvent(Struct, frozen=True, tag_field="status", tag="accepted"):
    """An event that Kafka has acknowledged, and where it stands in the log."""

    event_id: str
    topic: str
    partition: int
    offset: int
    token: TokenText
    """For `after` of a request that must know of it."""


class RefusedEvent(Struct, frozen=True, tag_field="status", tag="invalid"):
    """An event that is wrong in itself, and was not sent."""

    event_id: str | None
    """None where it cannot be read."""
    field: str
    """Which one is wrong; empty when the whole event is."""
    reason: str


class UnknownEvent(Struct, frozen=True, tag_field="status", tag="unknown"):
    """An event that Kafka has not acknowledged: it may have arrived, or may do so yet."""

    event_id: str
    reason: str


EventOutcome = Union[AcceptedEvent, RefusedEvent, UnknownEvent]


class EventsAnswer(Struct, frozen=True):
    """Answer of `POST /v1/events`."""

    accepted: int
    invalid: int
    unknown: int
    """Send these again, under the same `event_id`s."""
    events: list[EventOutcome]
    """What became of each, in the order of the request."""


class UserInteractions(Struct, frozen=True):
    """Answer of `GET /v1/users/{id}/interactions`: the session dictionary as it is held."""

    user_id: str
    interactions: dict[str, Interaction]
    applied: int
    marks: dict[str, int]


class KnownUser(Struct, frozen=True):
    """A user whose session is held."""

    user_id: str
    interactions: int
    """How many the session dictionary holds."""


class UserList(Struct, frozen=True):
    """Answer of `GET /v1/users`: some users, those with the most interactions first."""

    users: list[KnownUser]


class MergeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/users/{id}/merge`."""

    anonymous_id: UserId = msgspec.field(name="from")
    """The anonymous user, of whom nothing is left afterwards."""
    from_token: (
        Annotated[
            str,
            Meta(
                max_length=4_096,
                description="The anonymous user's token, with the scope `events`: who calls with "
                "a user's token must bring it.",
            ),
        ]
        | None
    ) = None
    timeout_ms: Annotated[int, Meta(ge=0, le=10_000)] = 5_000
    """Longest wait for workers to apply what was acknowledged before, in milliseconds."""


class MergeAnswer(Struct, frozen=True):
    """Answer of `POST /v1/users/{id}/merge`."""

    user_id: str
    anonymous_id: str = msgspec.field(name="from")
    interactions: int
    """How many the known user took over."""
    hidden: int
    """Items hidden from the known user by the merge."""
    tokens: list[TokenText]
    """For `after` of a request that must know of them."""
    message: str | None = None
    """Says in words that there was nothing to merge."""


class HiddenItems(Struct, frozen=True):
    """Answer of `GET /v1/users/{id}/hidden`, the oldest first."""

    user_id: str
    items: dict[str, float]
    """By item id, when it was hidden, in Unix seconds."""


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
    """How many of all that match have each category, the 50 most frequent ones first; empty where
    items are asked for by id."""


class ItemsAccepted(Struct, frozen=True):
    """Answer to a change of the catalogue, which Kafka has acknowledged."""

    accepted: int


TaskId = Annotated[str, Meta(pattern="^[0-9a-f]{32}(?!\\n)$")]


class TaskList(Struct, frozen=True):
    """Answer of `GET /v1/tasks`, newest first."""

    tasks: list[Task]


class TokenRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/users/{id}/token`."""

    scopes: Annotated[tuple[UserScope, ...], Meta(min_length=1, max_length=2)] = ("recommend",)
    expires_s: Annotated[int, Meta(ge=1, le=MAX_LIFE_S)] = 900
    """Seconds until it is no longer taken."""


class TokenAnswer(Struct, frozen=True):
    """Answer of `POST /v1/users/{id}/token`."""

    token: str
    user_id: str
    scopes: tuple[UserScope, ...]
    expires_at: float
    """Unix seconds."""


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


class Ready(Struct, frozen=True):
    """Answer of `GET /readyz`."""

    ready: bool
    redis: bool
    kafka: bool
    model: str | None
    """The version that this server has live."""
    refused: Refusal | None = None
    """The version that should be, and why it is not; the one in `model` goes on serving."""
    arms: dict[str, str] = {}
    """By version of the A/B test: `ready`, or why its users get the live version."""


class KeyInfo(Struct, frozen=True):
    """Answer of `GET /v1/key`."""

    id: str | None
    """None where no key is needed, and of the key in the server's settings."""
    name: str
    scopes: list[Scope]
    expires_at: float | None
    """Unix seconds; None: never."""


class Percentiles(Struct, frozen=True):
    """A time at each step, in milliseconds, within 5 %; None where nothing was counted."""

    p50: list[float | None]
    p95: list[float | None]
    p99: list[float | None]


class RouteFigures(Struct, frozen=True):
    """Requests to one route over the whole window."""

    route: str
    method: str
    requests: int
    client_errors: int
    """Answered with 4xx."""
    server_errors: int
    """Answered with 5xx."""
    p50_ms: float | None
    """None of streams."""
    p95_ms: float | None
    p99_ms: float | None


class QualitySeries(Struct, frozen=True):
    """How lists of one label fared, at each step over the time before it."""

    events: list[int]
    """Positive events after a list."""
    hit_rate: list[float | None]
    ndcg: list[float | None]


class Quality(Struct, frozen=True):
    """HR@k and NDCG@k of lists that were served, judged by what their users did next."""

    k: int
    over_s: int
    """Each step tells of so many seconds up to its end."""
    by_label: dict[str, QualitySeries]
    """By version; `trending`: of lists that no version made; `popularity`: had everybody been shown
    the items that are popular."""


class Swap(Struct, frozen=True):
    """A version that went live."""

    model_id: str
    version: str
    at: float
    """Unix seconds."""
    reason: str


class Figures(Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/figures`: series as long as `at`. None: nothing was told of that step."""

    window: Literal["1h", "1d"]
    step_s: int
    at: list[int]
    """When each step begins, in Unix seconds, oldest first."""
    events_per_s: dict[str, list[float | None]]
    """By topic, events that workers applied."""
    lag: dict[str, list[float | None]]
    """By topic, records that workers have still to do, as told last in the step."""
    freshness_ms: Percentiles
    """From a record's own time until its effects stood in Redis, the oldest of a batch for all."""
    requests_per_s: list[float | None]
    """To all servers."""
    client_errors_per_s: list[float | None]
    server_errors_per_s: list[float | None]
    latency_ms: Percentiles
    """From a request to the end of its answer; without streams."""
    routes: list[RouteFigures]
    """Those with most requests first."""
    quality: Quality
    swaps: list[Swap]
    """Oldest first."""
    told_at: dict[str, float | None]
    """When a `worker` and a `server` told last, in Unix seconds."""


class PartitionInfo(Struct, frozen=True):
    """A partition as it stands, and how fast it moves."""

    partition: int
    begin: int
    """Its first record's offset."""
    end: int
    """The offset after its last record."""
    newest: float | None
    """The newest record's own time, in Unix seconds."""
    position: int | None
    """The offset of the next record that workers will do; None: none was done, or that is not
    known, or they do not read the topic."""
    lag: int | None
    """Records that workers have still to do; None: that is not known, or not theirs to do."""
    rate_in: float
    """Records that came, a second."""
    rate_out: float | None
    """Records that workers did, a second."""


class TopicInfo(Struct, frozen=True, kw_only=True):
    """A topic: what it comes to over its partitions, and each of them."""

    topic: str
    """Without the prefix."""
    name: str
    """As the broker names it."""
    id: str | None
    """None: there is no such topic."""
    records: int
    """That it holds, or held before compaction."""
    newest: float | None
    lag: int | None
    rate_in: float
    rate_out: float | None
    partitions: list[PartitionInfo]


class TopicList(Struct, frozen=True):
    """Answer of `GET /v1/topics`."""

    at: float
    """Unix seconds."""
    over_s: float
    """Seconds over which rates were measured."""
    unknown: str
    """Why it is not known how far workers are; else empty."""
    topics: list[TopicInfo]


LetterId = Annotated[str, Meta(pattern="^[0-9]{1,9}-[0-9]{1,18}(?!\\n)$")]


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record that is wrong in itself, as received; in base64 what is no UTF-8."""

    id: str
    buried_at: float
    """Unix seconds."""
    topic: str | None
    """Where it came from, without the prefix; None: nothing says so."""
    partition: int
    offset: int
    field: str
    """The field at fault, or empty when the whole record is."""
    reason: str
    resent: bool
    """Whether it was sent again."""
    key: str | None
    key_base64: str | None
    value: str | None
    value_base64: str | None


class DeadLetterList(Struct, frozen=True):
    """Answer of `GET /v1/dead-letters`, newest first."""

    count: int
    """Of all that match."""
    dead_letters: list[DeadLetter]


class ResendRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/dead-letters/{letter_id}/resend`; without a field as it was received."""

    value: str | None = None
    """In place of the whole value."""
    value_base64: str | None = None
    """The same, in base64."""
    set: Annotated[dict[str, str], Meta(max_length=100)] = {}
    """By field of the event or item (`rating`, `context.device`), what it shall be."""
    drop: Annotated[list[str], Meta(max_length=100)] = []
    """Members of the value that shall go."""
    again: bool = False
    """Whether one that was sent again already may be sent once more."""
    dry_run: bool = False
    """Whether it is only to be told what would be sent."""


class ResentLetter(Struct, frozen=True, kw_only=True):
    """What was sent for a dead letter, or would be."""

    id: str
    topic: str
    """Without the prefix."""
    key: str | None
    value: str | None
    """None: it deletes an item."""
    sent: bool
    token: TokenText | None
    """Of an event that was sent."""


ReplayId = Annotated[str, Meta(pattern="^[0-9a-f]{32}(?!\\n)$")]
ReplayTime = Annotated[str, Meta(max_length=40)]


class ReplayRequest(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"begin": "from", "end": "to"},
):
    """Body of `POST /v1/replays`."""

    model_id: ModelId | None = None
    """Whose events; None: the server's own model's."""
    into: Name | None = None
    """A shadow's namespace, which a replay fills from nothing; None: the live state."""
    topics: Annotated[list[str], Meta(min_length=1, max_length=10)] | None = None
    """Without the prefix; None: all of the model's events."""
    begin: ReplayTime = BEGINNING
    """`beginning`, or a time in ISO 8601, which is UTC unless it says otherwise."""
    end: ReplayTime = NOW
    """`now`, or a time likewise."""
    rate: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    """Records a second at the most; 0: as fast as it goes."""
    dry_run: bool = False
    """Whether it is only to be counted what would be applied."""
    anew: bool = False
    """Whether a shadow that is there is deleted first."""


class ReplayList(Struct, frozen=True):
    """Answer of `GET /v1/replays`, newest first."""

    replays: list[ReplayTask]


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
