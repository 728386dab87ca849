"""What each route takes and gives, beyond what its path says."""

from __future__ import annotations

from typing import Annotated, Any, Union

import msgspec
from msgspec import Meta, Struct

from headrace.catalog import Item
from headrace.events import AnyEvent
from headrace.replaying.queue import ReplayTask
from headrace.tasks import Task
from headrace.training_requests import TrainingRequest
from headrace.versions import LiveVersion
from serving import examples
from serving.bodies import MAX_BULK
from serving.openapi.parameters import (
    CATEGORY,
    DIVERSITY,
    EXPLAIN,
    FOUND,
    FROM_TOPIC,
    IDS,
    IN_STATUS,
    LAST_EVENT_ID,
    LETTER_CURSOR,
    LETTERS,
    LIMIT,
    OF_KIND,
    OFFSET,
    ON_MAP,
    QUERY,
    REASON,
    RECOMMEND_SEEN,
    ROLLBACK_TO,
    STABILITY,
    STEP,
    USERS,
    WINDOW,
    K,
)
from serving.routing import OF_MODEL
from serving.schemas.dead_letters import DeadLetter, DeadLetterList, ResendRequest, ResentLetter
from serving.schemas.events import EventsAnswer
from serving.schemas.figures import Figures
from serving.schemas.items import FoundItems, ItemBody, ItemMap, ItemPopularity, ItemsAccepted
from serving.schemas.models import Model, ModelList, VersionList
from serving.schemas.recommendations import (
    ItemList,
    RecommendationAnswer,
    RecommendationRequest,
    ServedList,
)
from serving.schemas.replays import ReplayList, ReplayRequest
from serving.schemas.server import KeyInfo, Ready
from serving.schemas.tasks import TaskList
from serving.schemas.topics import TopicList
from serving.schemas.users import (
    HiddenItems,
    MergeAnswer,
    MergeRequest,
    TokenAnswer,
    TokenRequest,
    UserInteractions,
    UserList,
)
from serving.uploads import DATA

JSON = "application/json"


class Operation(Struct, frozen=True):
    """What a route takes and gives, beyond what its path says."""

    status: int = 200
    answer: Any = None
    body: Any = None
    needs_body: bool = True
    """Whether no body at all is wrong; else it counts as `{}`."""
    lines: Any = None
    """Where NDJSON is taken too: the type of all its lines."""
    file: str | None = None
    """The part that is a file, where a form is taken too; its others are fields of the body."""
    example: Any = None
    """Of the body; those of answers stand in `serving.examples`."""
    parameters: tuple[dict[str, Any], ...] = ()
    errors: tuple[int, ...] = ()
    also: tuple[int, ...] = ()
    """Other statuses of the same answer."""
    media: str = JSON
    """Of the answer; of `text/event-stream` the type is that of an event's data."""


_Events = Annotated[list[AnyEvent], Meta(min_length=1, max_length=MAX_BULK)]
_Items = Annotated[list[Item], Meta(min_length=1, max_length=MAX_BULK)]
# JSON Schema's way to say: a user or a session, never both.
_OneOfTwo = Annotated[
    RecommendationRequest,
    Meta(
        extra_json_schema={
            "oneOf": [
                {"required": ["user_id"], "properties": {"user_id": {"type": "string"}}},
                {
                    "required": ["user_interactions"],
                    "properties": {"user_interactions": {"type": "object"}},
                },
            ]
        }
    ),
]
OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/v1/events"): Operation(
        202,
        EventsAnswer,
        Union[AnyEvent, _Events],
        lines=_Events,
        example=examples.EVENT,
        errors=(413, 422, 503),
    ),
    ("POST", "/v1/recommendations"): Operation(
        answer=RecommendationAnswer,
        body=_OneOfTwo,
        example={"user_id": "42", "k": 10},
        errors=(409, 413, 422),
    ),
    ("POST", "/v1/models/{model_id}/recommendations"): Operation(
        answer=RecommendationAnswer,
        body=_OneOfTwo,
        example={
            "user_id": "42",
            "filter": {"categories": {"any": ["Comedy"]}, "year": {"gte": 1990}},
            "exclude_ids": ["21253"],
            "diversity": 0.3,
            "explain": True,
        },
        errors=(404, 409, 413, 422),
    ),
    ("GET", "/v1/recommendations/{recommendation_id}"): Operation(
        answer=ServedList, errors=(404, 422, 503)
    ),
    ("GET", "/v1/figures"): Operation(answer=Figures, parameters=(WINDOW,), errors=(422, 503)),
    ("GET", "/v1/replays"): Operation(answer=ReplayList, errors=(503,)),
    ("POST", "/v1/replays"): Operation(
        202,
        ReplayTask,
        ReplayRequest,
        needs_body=False,
        example={"into": "shadow", "dry_run": True},
        errors=(404, 409, 413, 422, 503),
    ),
    ("GET", "/v1/replays/{replay_id}"): Operation(answer=ReplayTask, errors=(404, 422, 503)),
    ("DELETE", "/v1/replays/{replay_id}"): Operation(
        answer=ReplayTask, also=(202,), errors=(404, 409, 422, 503)
    ),
    ("POST", "/v1/replays/{replay_id}/resume"): Operation(
        202, ReplayTask, errors=(404, 409, 422, 503)
    ),
    ("POST", "/v1/replays/{replay_id}/promote"): Operation(
        202, ReplayTask, errors=(404, 409, 422, 503)
    ),
    ("GET", "/v1/topics"): Operation(answer=TopicList, errors=(503,)),
    ("GET", "/v1/dead-letters"): Operation(
        answer=DeadLetterList,
        parameters=(REASON, FROM_TOPIC, LETTERS, LETTER_CURSOR),
        errors=(422, 503),
    ),
    ("GET", "/v1/dead-letters/{letter_id}"): Operation(answer=DeadLetter, errors=(404, 422, 503)),
    ("POST", "/v1/dead-letters/{letter_id}/resend"): Operation(
        answer=ResentLetter,
        body=ResendRequest,
        needs_body=False,
        example={"set": {"rating": "4.5"}, "dry_run": True},
        errors=(404, 409, 413, 422, 503),
    ),
    ("GET", "/v1/key"): Operation(answer=KeyInfo),
    ("GET", "/v1/trending"): Operation(answer=ItemList, parameters=(K, CATEGORY), errors=(422,)),
    ("GET", "/v1/users"): Operation(answer=UserList, parameters=(USERS,), errors=(422, 503)),
    ("GET", "/v1/users/{user_id}/interactions"): Operation(
        answer=UserInteractions, errors=(422, 503)
    ),
    ("GET", "/v1/users/{user_id}/recommendations/stream"): Operation(
        answer=RecommendationAnswer,
        media="text/event-stream",
        parameters=(K, RECOMMEND_SEEN, CATEGORY, DIVERSITY, EXPLAIN, STABILITY, LAST_EVENT_ID),
        errors=(422, 503),
    ),
    ("GET", "/v1/users/{user_id}/hidden"): Operation(answer=HiddenItems, errors=(422, 503)),
    ("PUT", "/v1/users/{user_id}/hidden/{item_id}"): Operation(204, errors=(409, 422, 503)),
    ("DELETE", "/v1/users/{user_id}/hidden/{item_id}"): Operation(204, errors=(422, 503)),
    ("POST", "/v1/users/{user_id}/token"): Operation(
        answer=TokenAnswer,
        body=TokenRequest,
        needs_body=False,
        example={"scopes": ["recommend"], "expires_s": 900},
        errors=(413, 422),
    ),
    ("POST", "/v1/users/{user_id}/merge"): Operation(
        answer=MergeAnswer,
        body=MergeRequest,
        example={"from": "anon-7d1f"},
        errors=(409, 413, 422, 503),
    ),
    ("DELETE", "/v1/users/{user_id}"): Operation(204, errors=(422, 503)),
    ("POST", "/v1/items"): Operation(
        202,
        ItemsAccepted,
        Union[Item, _Items],
        lines=_Items,
        example={"item_id": "21253", "title": "Toy Story", "categories": ["Animation"]},
        errors=(413, 422, 503),
    ),
    ("GET", "/v1/items"): Operation(
        answer=FoundItems,
        parameters=(QUERY, CATEGORY, IDS, FOUND, OFFSET),
        errors=(422, 503),
    ),
    ("GET", "/v1/items/{item_id}"): Operation(answer=Item, errors=(404, 422, 503)),
    ("PUT", "/v1/items/{item_id}"): Operation(
        202,
        ItemsAccepted,
        ItemBody,
        needs_body=False,
        example={"title": "Toy Story", "categories": ["Animation"], "price": 9.99},
        errors=(413, 422, 503),
    ),
    ("DELETE", "/v1/items/{item_id}"): Operation(202, ItemsAccepted, errors=(422, 503)),
    ("GET", "/v1/items/{item_id}/similar"): Operation(
        answer=ItemList, parameters=(K,), errors=(404, 422)
    ),
    ("GET", "/v1/items/{item_id}/bought-together"): Operation(
        answer=ItemList, parameters=(K,), errors=(404, 422)
    ),
    ("GET", "/v1/items/{item_id}/popularity"): Operation(
        answer=ItemPopularity, parameters=(STEP,), errors=(422, 503)
    ),
    ("GET", "/v1/models/{model_id}/map"): Operation(
        answer=ItemMap, parameters=(ON_MAP,), errors=(404, 409, 422, 503)
    ),
    ("GET", "/v1/models"): Operation(answer=ModelList, errors=(503,)),
    ("GET", "/v1/models/{model_id}/versions"): Operation(
        answer=VersionList, errors=(404, 422, 503)
    ),
    ("POST", "/v1/models/{model_id}/versions/{version}/activate"): Operation(
        answer=LiveVersion, errors=(404, 409, 422, 503)
    ),
    ("PUT", "/v1/models/{model_id}/versions/{version}/pin"): Operation(
        answer=Model, errors=(404, 409, 422, 503)
    ),
    ("DELETE", "/v1/models/{model_id}/pin"): Operation(204, errors=(409, 422, 503)),
    ("DELETE", "/v1/models/{model_id}/versions/{version}"): Operation(
        204, errors=(404, 409, 422, 503)
    ),
    ("PUT", "/v1/models/{model_id}"): Operation(answer=Model, errors=(422, 503)),
    ("DELETE", "/v1/models/{model_id}"): Operation(204, errors=(409, 422, 503)),
    ("POST", "/v1/models/{model_id}/rollback"): Operation(
        answer=LiveVersion, parameters=(ROLLBACK_TO,), errors=(404, 409, 422, 503)
    ),
    ("POST", "/v1/models/{model_id}/train"): Operation(
        202,
        Task,
        TrainingRequest,
        needs_body=False,
        file=DATA,
        example={"reason": "a new season", "epochs": 10},
        errors=(404, 409, 413, 422, 429, 503),
    ),
    ("GET", "/v1/tasks"): Operation(
        answer=TaskList, parameters=(OF_KIND, IN_STATUS, LIMIT), errors=(422, 503)
    ),
    ("GET", "/v1/tasks/{task_id}"): Operation(answer=Task, errors=(404, 422, 503)),
    ("DELETE", "/v1/tasks/{task_id}"): Operation(
        answer=Task, also=(202,), errors=(404, 409, 422, 503)
    ),
    ("GET", "/v1/tasks/{task_id}/log"): Operation(
        answer=str, media="text/plain", errors=(404, 422, 503)
    ),
    ("GET", "/readyz"): Operation(answer=Ready, also=(503,)),
}


def operation_of(method: str, path: str) -> Operation | None:
    """Return what is known of a route; of a model's, what is known of the settings' own model's."""
    found = OPERATIONS.get((method, path))
    if found is not None or not path.startswith(f"{OF_MODEL}/"):
        return found
    same = OPERATIONS.get((method, "/v1" + path.removeprefix(OF_MODEL)))
    return same and msgspec.structs.replace(same, errors=(404, *same.errors))
