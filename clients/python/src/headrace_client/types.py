"""What requests hold and answers show, made of the OpenAPI document by `make clients`."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field


class AcceptedEvent(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="status", tag="accepted"
):
    """An event that Kafka has acknowledged, and where it stands in the log."""

    event_id: str
    topic: str
    partition: int
    offset: int
    token: str


class Asked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request asked for."""

    k: int
    recommend_seen: bool = False
    candidates: int | None = None
    excluded: int = 0
    shown: int = 0
    filter: dict[str, Any] | None = None
    diversity: float = 0.0
    stability: int | None = None


class Click(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="click"):
    """The user opened the item."""

    event_id: str
    user_id: str
    item_id: str
    timestamp: float
    recommendation_id: str | None = None
    context: dict[str, str | int | float | bool | None] | None = None
    merged: bool | None = None


class DataSchema(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the rows of a file of events are, as `headrace import` takes it."""

    format: Literal["csv", "jsonl", "parquet"] | None = None
    type: Literal["click", "purchase", "rating"] | None = None
    columns: dict[str, str] = {}
    constants: dict[str, str] = {}
    leave_out: list[str] = []
    time_unit: Literal["iso", "ms", "s", "us"] = "s"
    delimiter: str | None = None


class DeadLetter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record that is wrong in itself, as received; in base64 what is no UTF-8."""

    id: str
    buried_at: float
    topic: str | None
    partition: int
    offset: int
    field: str
    reason: str
    resent: bool
    key: str | None
    key_base64: str | None
    value: str | None
    value_base64: str | None


class DeadLetterList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/dead-letters`, newest first."""

    count: int
    dead_letters: list[DeadLetter]
    cursor: str | None


class Evaluation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How lists fared with the users who were served them, in the window until now."""

    k: int
    events: int
    hit_rate: float
    ndcg: float
    window_s: float


class EventsAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `POST /v1/events`."""

    accepted: int
    invalid: int
    unknown: int
    events: list[AcceptedEvent | RefusedEvent | UnknownEvent]


class Figures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/figures`: series as long as `at`. None: nothing was told of that step."""

    window: Literal["1d", "1h"]
    step_s: int
    at: list[int]
    events_per_s: dict[str, list[float | None]]
    lag: dict[str, list[float | None]]
    freshness_ms: Percentiles
    requests_per_s: list[float | None]
    client_errors_per_s: list[float | None]
    server_errors_per_s: list[float | None]
    latency_ms: Percentiles
    routes: list[RouteFigures]
    quality: Quality
    swaps: list[Swap]
    told_at: dict[str, float | None]


class FoundItems(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/items`."""

    count: int
    offset: int
    items: list[Item]
    categories: dict[str, int]


class HiddenItems(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/users/{id}/hidden`, the oldest first."""

    user_id: str
    items: dict[str, float]


class Interaction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest event of one item, as the HTTP API takes and shows it.      Shown, it has all its
    fields: left out would be those that are the very objects of the defaults,     and a text that
    was read is another object each time."""

    timestamp: float
    rating: float | None = None
    event: Literal["click", "purchase", "rating"] = "rating"


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item of the catalogue. What it holds beside its id are the candidate tower's features."""

    item_id: str
    title: str | None = None
    categories: list[str] = []
    price: float | None = None
    attributes: dict[str, str | int | float | bool | None] = {}


class ItemBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of `PUT /v1/items/{id}`."""

    title: str | None = None
    categories: list[str] = []
    price: float | None = None
    attributes: dict[str, str | int | float | bool | None] = {}


class ItemList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Items with scores: similar ones, ones bought together, trending ones."""

    items: list[Recommendation]
    message: str | None = None


class ItemMap(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/models/{id}/map`, the most popular items of late first."""

    model: ModelInfo
    explained: float
    count: int
    ids: list[str]
    titles: list[str | None]
    categories: list[str | None]
    x: list[float]
    y: list[float]


class ItemPopularity(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/items/{id}/popularity`."""

    item_id: str
    step_s: int
    at: list[int]
    events: list[int]


class ItemsAccepted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to a change of the catalogue, which Kafka has acknowledged."""

    accepted: int


class KeyInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/key`."""

    id: str | None
    name: str
    scopes: list[Literal["admin", "erase", "events", "recommend", "train"]]
    expires_at: float | None


class KnownUser(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user whose session is held."""

    user_id: str
    interactions: int


class LiveVersion(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went live, when, and why."""

    model_id: str
    version: str
    live_since: float
    sequence: int
    reason: str


class MergeAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """Answer of `POST /v1/users/{id}/merge`."""

    user_id: str
    from_: str
    interactions: int
    hidden: int
    tokens: list[str]
    message: str | None = None


class MergeRequest(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """Body of `POST /v1/users/{id}/merge`."""

    from_: str
    from_token: str | None = None
    """The anonymous user's token, with the scope `events`: who calls with a user's token must bring
    it."""
    timeout_ms: int = 5000


class Model(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model, and which of its versions is live."""

    id: str
    live: LiveVersion | None
    pinned: str | None = None
    rollback: str | None = None
    deleted: bool = False
    topics: list[str] = []


class ModelInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The version that a list came from."""

    id: str
    version: str


class ModelList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/models`."""

    models: list[Model]


class PartitionInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A partition as it stands, and how fast it moves."""

    partition: int
    begin: int
    end: int
    newest: float | None
    position: int | None
    lag: int | None
    rate_in: float
    rate_out: float | None


class Percentiles(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A time at each step, in milliseconds, within 5 %; None where nothing was counted."""

    p50: list[float | None]
    p95: list[float | None]
    p99: list[float | None]


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[WrongField] = []
    code: str | None = None
    missing: list[str] = []
    answer: RecommendationAnswer | None = None
    task: Task | None = None


class Purchase(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="purchase"
):
    """The user bought the item."""

    event_id: str
    user_id: str
    item_id: str
    timestamp: float
    recommendation_id: str | None = None
    context: dict[str, str | int | float | bool | None] | None = None
    merged: bool | None = None
    quantity: int = 1
    price: float | None = None
    currency: str | None = None
    rating: float | None = None


class Quality(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """HR@k and NDCG@k of lists that were served, judged by what their users did next."""

    k: int
    over_s: int
    by_label: dict[str, QualitySeries]


class QualitySeries(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How lists of one label fared, at each step over the time before it."""

    events: list[int]
    hit_rate: list[float | None]
    ndcg: list[float | None]


class Rating(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="rating"):
    """The user rated the item."""

    event_id: str
    user_id: str
    item_id: str
    timestamp: float
    recommendation_id: str | None = None
    context: dict[str, str | int | float | bool | None] | None = None
    merged: bool | None = None
    rating: float


class Ready(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /readyz`."""

    ready: bool
    redis: bool
    kafka: bool
    model_id: str
    model: str | None
    loading: bool = False
    refused: Refusal | None = None
    refusals: dict[str, Refusal] = {}
    arms: dict[str, str] = {}


class Reason(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An interaction that moved an item."""

    id: str
    effect: float
    """The item's score, as retrieval has it, less what it would be without the interaction."""


class Recommendation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of a list."""

    id: str
    score: float
    cold: bool = False
    because: list[Reason] = []
    """With `explain`: the interactions that moved it most, these first."""


class RecommendationAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `POST /v1/recommendations`."""

    id: str
    recommendations: list[Recommendation]
    message: str | None
    model: ModelInfo | None
    session: SessionInfo
    cursor: str | None = None
    """Asks for the next page; null when nothing is left to show."""
    ranking: str | None = None
    """The version of the second stage that put the items in this order; null: none did."""


class RecommendationRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of `POST /v1/recommendations`: `user_id` or `user_interactions`, never both."""

    user_id: str | None = None
    user_interactions: dict[str, Interaction] | None = None
    k: int = 10
    recommend_seen: bool = False
    candidate_ids: list[str] | None = None
    after: str | list[str] = []
    timeout_ms: int = 500
    exclude_ids: list[str] = []
    """Items that are left out."""
    filter: dict[str, Any] | None = None
    """Which items may be recommended, by their fields: `eq`, `in`, `gt`, `gte`, `lt`, `lte`,
    `exists`, and of `categories` `any`, `all`; with `and`, `or`, `not`. Every member must hold. One
    on a field that an item has not does not hold."""
    diversity: float = 0.0
    """How much unlike each other the items are to be: 0 ranks by score alone, 1 by unlikeness alone
    (maximal marginal relevance)."""
    cursor: str | None = None
    """The `cursor` of the page before: what that one and those before it showed is left out."""
    explain: bool = False
    """Whether each item tells which interactions moved it, in `because`."""


class Refusal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version that is not served, and why."""

    version: str
    reason: str


class RefusedEvent(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="status", tag="invalid"
):
    """An event that is wrong in itself, and was not sent."""

    event_id: str | None
    field: str
    reason: str


class ReplayList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/replays`, newest first."""

    replays: list[ReplayTask]


class ReplayRequest(
    Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}
):
    """Body of `POST /v1/replays`."""

    model_id: str | None = None
    into: str | None = None
    topics: list[str] | None = None
    from_: str = "beginning"
    to: str = "now"
    rate: float = 0.0
    dry_run: bool = False
    anew: bool = False


class ReplayTask(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """A replay, or the promotion of a shadow, from asking to end. Times are Unix seconds."""

    id: str
    action: Literal["promote", "replay"] = "replay"
    status: Literal["CANCELLED", "FAILED", "QUEUED", "RUNNING", "SUCCEEDED"] = "QUEUED"
    model_id: str
    into: str | None
    topics: list[str] | None = None
    from_: str = "beginning"
    to: str = "now"
    rate: float = 0.0
    dry_run: bool = False
    anew: bool = False
    progress: float = 0.0
    step: str = "queued"
    records: int = 0
    total: int | None = None
    counts: dict[str, dict[str, int]] = {}
    goes_on: bool | None = None
    state_hash: str | None = None
    created_at: float
    started_at: float | None = None
    updated_at: float
    finished_at: float | None = None
    requested_by: str = ""
    error: str | None = None
    attempts: int = 0


class ResendRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of `POST /v1/dead-letters/{letter_id}/resend`; without a field as it was received."""

    value: str | None = None
    value_base64: str | None = None
    set: dict[str, str] = {}
    drop: list[str] = []
    again: bool = False
    dry_run: bool = False


class ResentLetter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was sent for a dead letter, or would be."""

    id: str
    topic: str | None
    key: str | None
    value: str | None
    sent: bool
    token: str | None
    refused: str | None


class RouteFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests to one route over the whole window."""

    route: str
    method: str
    requests: int
    client_errors: int
    server_errors: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class ServedList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/recommendations/{id}`: a list that was served, and why."""

    id: str
    user_id: str | None
    served_at: float
    by: Literal["request", "stream"]
    recommendations: list[Recommendation]
    message: str | None
    model: ModelInfo | None
    experiment: str | None
    asked: Asked
    session: ServedSession
    ranking: str | None = None
    """The version of the second stage that put the items in this order; null: none did."""


class ServedSession(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The session that a served list was made from."""

    interactions: int
    applied: int
    updated_at: float | None
    marks: dict[str, int]
    newest: dict[str, Interaction]


class SessionInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The session that a list was made from."""

    interactions: int
    applied: int
    updated_at: float | None
    marks: dict[str, int]


class Swap(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version that went live."""

    model_id: str
    version: str
    at: float
    reason: str


class Task(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One training, from the asking to its end. Times are Unix seconds."""

    id: str
    model_id: str
    object: str = "task"
    kind: Literal["items", "ranking", "retrieval"] = "retrieval"
    status: Literal["CANCELLED", "FAILED", "QUEUED", "REJECTED", "RUNNING", "SUCCEEDED"] = "QUEUED"
    progress: float = 0.0
    step: str = "queued"
    queue_position: int | None = None
    created_at: float
    started_at: float | None = None
    updated_at: float
    finished_at: float | None = None
    requested_by: str = ""
    reason: str = ""
    params: dict[str, Any] = {}
    data: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    version: str | None = None
    error: str | None = None


class TaskList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/tasks`, newest first."""

    tasks: list[Task]


class TokenAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `POST /v1/users/{id}/token`."""

    token: str
    user_id: str
    scopes: list[Literal["events", "recommend"]]
    expires_at: float


class TokenRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of `POST /v1/users/{id}/token`."""

    scopes: list[Literal["events", "recommend"]] = field(default_factory=lambda: ["recommend"])
    expires_s: int = 900


class TopicInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A topic: what it comes to over its partitions, and each of them."""

    topic: str
    name: str
    id: str | None
    records: int
    newest: float | None
    lag: int | None
    rate_in: float
    rate_out: float | None
    partitions: list[PartitionInfo]


class TopicList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/topics`."""

    at: float
    over_s: float
    unknown: str
    topics: list[TopicInfo]


class TrainingRequest(
    Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}
):
    """Asks for a training: the body of `POST …/train`, a message of the `retrain` topic."""

    model_id: str | None = None
    kind: Literal["items", "ranking", "retrieval"] | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    algorithm: str | None = None
    mode: Literal["full", "incremental"] | None = None
    train_split_ratio: float | None = None
    with_feedback: bool = False
    global_data: bool = False
    seed: int | None = None
    from_: float | str | dict[str, dict[str, int]] | None = None
    to: float | str | dict[str, dict[str, int]] | None = None
    schema: DataSchema | None = None
    params: dict[str, float] = {}
    force: bool = False
    idempotency_key: str | None = None
    reason: str = ""
    requested_by: str = ""


class UnknownEvent(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="status", tag="unknown"
):
    """An event that Kafka has not acknowledged: it may have arrived, or may do so yet."""

    event_id: str
    reason: str


class UserInteractions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/users/{id}/interactions`: the session dictionary as it is held."""

    user_id: str
    interactions: dict[str, Interaction]
    applied: int
    marks: dict[str, int]


class UserList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/users`: some users, those with the most interactions first."""

    users: list[KnownUser]


class VersionList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /v1/models/{model_id}/versions`, newest first."""

    versions: list[dict[str, Any]]
    trending: Evaluation | None = None


class WrongField(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A field of a request, and what is wrong with it."""

    field: str
    reason: str
    index: int | None = None
    value: str | None = None
