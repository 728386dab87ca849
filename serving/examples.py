"""What the OpenAPI document shows of each answer: an example a type, made of the type itself."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

from headrace.catalog import Item
from headrace.events import AnyEvent, Rating
from headrace.impressions import Asked
from headrace.replaying.queue import ReplayTask
from headrace.sessions import Interaction
from headrace.tasks import Task
from headrace.tokens import Token
from headrace.versions import LiveVersion, Manifest, ModelState, TrainingData, describe
from serving.schemas.dead_letters import DeadLetter, DeadLetterList, ResentLetter
from serving.schemas.events import AcceptedEvent, EventsAnswer, RefusedEvent, UnknownEvent
from serving.schemas.figures import Figures, Percentiles, Quality, QualitySeries, RouteFigures, Swap
from serving.schemas.items import FoundItems, ItemMap, ItemPopularity, ItemsAccepted
from serving.schemas.models import Model, ModelList, VersionList
from serving.schemas.recommendations import (
    ItemList,
    ModelInfo,
    Recommendation,
    RecommendationAnswer,
    ServedList,
    ServedSession,
    SessionInfo,
)
from serving.schemas.replays import ReplayList
from serving.schemas.server import KeyInfo, Ready
from serving.schemas.tasks import TaskList
from serving.schemas.topics import PartitionInfo, TopicInfo, TopicList
from serving.schemas.users import (
    HiddenItems,
    KnownUser,
    MergeAnswer,
    TokenAnswer,
    UserInteractions,
    UserList,
)

NOW = 1704060026.0
"""Unix seconds."""
USER_ID, ITEM_ID, MODEL_ID, VERSION = "42", "21253", "default", "20240101T020500Z-3fa9c1"
TASK_ID = "9f3c1e0a7b5d4c2f8e6a1b0c3d5e7f90"
REPLAY_ID = "7c2e9a4b1d6f4e0893a5c7d2b4e6f810"
LETTER_ID = "2-17"
LETTER_CURSOR = "1704060026000-2-17"
LIST_ID = "5c0f9a7be2d4435a8b1f0c9d7e6a3b2c"
TOKEN = str(Token("ratings", 3, 4711))

EVENT: AnyEvent = Rating(
    event_id="3f6c", user_id=USER_ID, item_id=ITEM_ID, timestamp=NOW, rating=4.5
)
_ITEM = Item(
    item_id=ITEM_ID,
    title="Toy Story",
    categories=("Animation", "Comedy"),
    price=9.99,
    attributes={"year": 1995},
)
_ITEMS = [Recommendation("318", 0.41), Recommendation("50", 0.37, cold=True)]
_LIVE = LiveVersion(
    model_id=MODEL_ID, version=VERSION, live_since=NOW, sequence=7, reason="trained"
)
_MODEL = Model(MODEL_ID, _LIVE)
_MANIFEST = Manifest(
    model_id=MODEL_ID,
    version=VERSION,
    created_at=NOW,
    files={},
    data=TrainingData(
        through={"ratings": {"3": 4712}},
        events=100_000,
        users=943,
        items=1_682,
        fingerprint="9b74c9897bac770ffc029102a200c5de0f3b7a6e5d4c3b2a190807060504f3e2",
        from_timestamp=NOW - 86_400,
        to_timestamp=NOW,
    ),
    parameters={"width": 64},
    metrics={"ndcg_at_10": 0.111},
    packages={},
)
_TASK = Task(
    id=TASK_ID,
    model_id=MODEL_ID,
    queue_position=1,
    created_at=NOW,
    updated_at=NOW,
    requested_by="http",
    reason="a new season",
)
_LIST = RecommendationAnswer(
    id=LIST_ID,
    recommendations=_ITEMS,
    message=None,
    model=ModelInfo(MODEL_ID, VERSION),
    session=SessionInfo(12, 14, NOW, {"ratings/3": 4711}),
    cursor="eAEzNjQAAAEsAJQ",
)

_SERVED = ServedList(
    id=LIST_ID,
    user_id=USER_ID,
    served_at=NOW,
    by="request",
    recommendations=_ITEMS,
    message=None,
    model=ModelInfo(MODEL_ID, VERSION),
    experiment=None,
    asked=Asked(k=2),
    session=ServedSession(
        12, 14, NOW, {"ratings/3": 4711}, {ITEM_ID: Interaction(NOW, 4.5, "rating")}
    ),
)

_LETTER = DeadLetter(
    id=LETTER_ID,
    buried_at=NOW,
    topic="ratings",
    partition=3,
    offset=4711,
    field="rating",
    reason="rating: Expected `float` <= 1000.0",
    resent=False,
    key=USER_ID,
    key_base64=None,
    value='{"event_id":"3f6c","user_id":"42","item_id":"21253","timestamp":1704060026,"rating":4500}',
    value_base64=None,
)
_TOPIC = TopicInfo(
    topic="ratings",
    name="ratings",
    id="QpBnlhrFTSuHFfjBHJYcqw",
    records=4_712,
    newest=NOW,
    lag=3,
    rate_in=12.4,
    rate_out=12.0,
    partitions=[PartitionInfo(3, 0, 4_712, NOW, 4_709, 3, 12.4, 12.0)],
)

_REPLAY = ReplayTask(
    id=REPLAY_ID,
    status="RUNNING",
    model_id=MODEL_ID,
    into="shadow",
    step="replaying",
    progress=0.4,
    records=40_000,
    total=100_000,
    counts={"ratings": {"new": 39_000, "invalid": 1_000}},
    created_at=NOW,
    started_at=NOW + 1,
    updated_at=NOW + 3,
    requested_by="3f6c9a7be2d4",
    attempts=1,
)

_ANSWERS: tuple[Struct, ...] = (
    _ITEM,
    _LIVE,
    _LIST,
    _TASK,
    TaskList([_TASK]),
    EventsAnswer(
        1,
        1,
        1,
        [
            AcceptedEvent("3f6c", "ratings", 3, 4711, TOKEN),
            RefusedEvent("3f6d", "rating", "Expected `float` <= 1000.0"),
            UnknownEvent("3f6e", "Kafka has not acknowledged it; send it again."),
        ],
    ),
    Figures(
        window="1h",
        step_s=10,
        at=[int(NOW) - 20, int(NOW) - 10],
        events_per_s={"ratings": [None, 12.4]},
        lag={"ratings": [None, 3]},
        freshness_ms=Percentiles([None, 8.1], [None, 21.0], [None, 40.2]),
        requests_per_s=[0.0, 31.5],
        client_errors_per_s=[0.0, 0.1],
        server_errors_per_s=[0.0, 0.0],
        latency_ms=Percentiles([None, 1.9], [None, 3.4], [None, 6.0]),
        routes=[RouteFigures("/v1/recommendations", "POST", 315, 1, 0, 1.9, 3.4, 6.0)],
        quality=Quality(
            10,
            300,
            {
                VERSION: QualitySeries([0, 50], [None, 0.2], [None, 0.11]),
                "popularity": QualitySeries([0, 50], [None, 0.08], [None, 0.04]),
            },
        ),
        swaps=[Swap(MODEL_ID, VERSION, NOW - 15, "trained")],
        told_at={"worker": NOW - 2, "server": NOW - 1},
    ),
    ItemPopularity(ITEM_ID, 86_400, [int(NOW) - 86_426, int(NOW) - 26], [12, 3]),
    ItemMap(
        model=ModelInfo(MODEL_ID, VERSION),
        explained=0.34,
        count=1_682,
        ids=[ITEM_ID],
        titles=["Toy Story"],
        categories=["Animation"],
        x=[0.41],
        y=[-0.12],
    ),
    _LETTER,
    _REPLAY,
    ReplayList([_REPLAY]),
    DeadLetterList(93, [_LETTER], LETTER_CURSOR),
    ResentLetter(
        id=LETTER_ID,
        topic="ratings",
        key=USER_ID,
        value='{"rating":4.5}',
        sent=False,
        token=None,
        refused=None,
    ),
    TopicList(NOW, 2.1, "", [_TOPIC]),
    FoundItems(1, 0, [_ITEM], {"Animation": 1, "Comedy": 1}),
    KeyInfo("3f6c9a7be2d4", "the feed", ["recommend"], NOW + 86_400),
    HiddenItems(USER_ID, {ITEM_ID: NOW}),
    ItemList(_ITEMS),
    ItemsAccepted(1),
    MergeAnswer(USER_ID, "anon-7d1f", 3, 1, [TOKEN]),
    _MODEL,
    _SERVED,
    ModelList([_MODEL]),
    Ready(ready=True, redis=True, kafka=True, model_id=MODEL_ID, model=VERSION),
    TokenAnswer("hu_eyJ1Ijoi…", USER_ID, ("recommend",), NOW + 900),
    UserInteractions(USER_ID, {ITEM_ID: Interaction(NOW, 4.5, "rating")}, 14, {"ratings/3": 4711}),
    UserList([KnownUser(USER_ID, 12)]),
    VersionList([dict(describe(_MANIFEST, ModelState(live=_LIVE)))]),
)
_BY_TYPE: dict[type, Any] = {type(answer): answer for answer in _ANSWERS}
_BY_TYPE[str] = "epoch 1 of 8: loss 6.1\n"

FILE = "user_id,item_id,timestamp,rating\n42,21253,1704060026,4.5\n"
"""A file of events that is sent with a request for a training."""
UPLOAD = {"reason": "a new season", "schema": {"type": "rating"}}
"""What says how it is to be read."""

_DETAILS = {
    400: "The request cannot be read.",
    401: "This needs a key: send `Authorization: Bearer <key>`.",
    403: "This needs a key with the scope admin; this one has recommend.",
    404: "The catalogue has no item with the id '21253'.",
    408: "No more of the body has come for 30 s; send it again.",
    409: "Model default has had no other version live to go back to.",
    413: "The body is longer than 1,048,576 bytes; send it in parts.",
    422: "k: Expected `int` <= 500; it is 501",
    429: "This key may make 200 requests a second, 400 at once; wait 0.3 s.",
    503: "Redis, the session store, cannot be reached; try again.",
}
_WRONG_K = {"field": "k", "reason": "Expected `int` <= 500", "value": "501"}


def answer_of(of: Any) -> Any:
    """Return an example of an answer of this type, as JSON has it; None for a type without one."""
    answer = _BY_TYPE.get(of)
    return None if answer is None else msgspec.to_builtins(answer)


def problem_of(status: int, answer: Any) -> dict[str, Any]:
    """Return a problem document of this status, from a call that else gives this type of answer."""
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _DETAILS[status],
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        problem["errors"] = [_WRONG_K]
    if status == HTTPStatus.CONFLICT and answer is RecommendationAnswer:
        problem |= {
            "detail": f"The session has not seen {TOKEN} within 500 ms; `answer` is from the "
            "session as it is. Ask again.",
            "code": "stale",
            "missing": [TOKEN],
            "answer": answer_of(answer),
        }
    if status == HTTPStatus.CONFLICT and answer is Task:
        problem |= {
            "detail": f"Model {MODEL_ID} is being trained already; `task` is that training.",
            "task": answer_of(answer),
        }
    return problem
