"""The OpenAPI 3.1 document, made from the types that requests and answers really have."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Annotated, Any, Union

import msgspec
from msgspec import Meta, Struct
from starlette.routing import BaseRoute, Route

from headrace import __version__
from headrace.catalog import Item
from headrace.events import AnyEvent, ItemId, UserId
from headrace.figures import WINDOWS
from headrace.impressions import ImpressionId
from headrace.popularity import STEP_S
from headrace.replaying.queue import ReplayTask
from headrace.settings import ModelId
from headrace.tasks import Task
from headrace.tokens import TokenText
from headrace.training_kinds import KINDS
from headrace.training_requests import TrainingRequest
from headrace.versions import LiveVersion, VersionName
from serving import examples, schemas
from serving.bodies import MAX_BULK
from serving.guard import ACCESS_TOKEN, FORM
from serving.problems import MEDIA_TYPE
from serving.routes.items import MAX_FOUND, MAX_IDS, MAX_OFFSET, MAX_QUERY
from serving.routes.models import MAX_MAP
from serving.routes.tasks import MAX_LIMIT, STATUSES
from serving.routes.topics import MAX_LETTERS, MAX_REASON, MAX_TOPIC
from serving.routes.users import MAX_USERS
from serving.routing import OF_MODEL, Guarded
from serving.uploads import DATA, REQUEST

_JSON = "application/json"
_REF = "#/components/schemas/{name}"
_PATH_PARAMETERS: dict[str, tuple[str, Any, str]] = {
    "user_id": ("The user's id.", UserId, examples.USER_ID),
    "item_id": ("The item's id.", ItemId, examples.ITEM_ID),
    "model_id": ("The model's id.", ModelId, examples.MODEL_ID),
    "letter_id": ("The dead letter's id.", schemas.LetterId, examples.LETTER_ID),
    "replay_id": ("The replay's id.", schemas.ReplayId, examples.REPLAY_ID),
    "task_id": ("The task's id.", schemas.TaskId, examples.TASK_ID),
    "version": ("The version's name.", VersionName, examples.VERSION),
    "recommendation_id": ("The id of an answer.", ImpressionId, examples.LIST_ID),
}
"""By name: what it is, its type, an example."""
_SECURITY_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, `hr_…`; `headrace keys create` makes one.",
    },
    "user_token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A user's token, `hu_…`, for that user's own alone.",
    },
    "stream_token": {
        "type": "apiKey",
        "in": "query",
        "name": ACCESS_TOKEN,
        "description": "A user's token where EventSource can send no header.",
    },
}
_K = {
    "name": "k",
    "in": "query",
    "description": "How many, at the most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 500, "default": 10},
    "example": 10,
}


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
    answer: schemas.RecommendationAnswer | None = None
    """Of `stale` recommendations: what there is without them."""
    task: Task | None = None
    """Of a model that is being trained already: that training."""


class Operation(Struct, frozen=True):
    """What a route takes and gives, beyond what its path says."""

    status: int = 200
    answer: Any = None
    body: Any = None
    needs_body: bool = True
    """Whether no body at all is wrong; else it counts as `{}`."""
    file: str | None = None
    """The part that is a file, where a form is taken too; its others are fields of the body."""
    example: Any = None
    """Of the body; those of answers stand in `serving.examples`."""
    parameters: tuple[dict[str, Any], ...] = ()
    errors: tuple[int, ...] = ()
    also: tuple[int, ...] = ()
    """Other statuses of the same answer."""
    media: str = _JSON
    """Of the answer; of `text/event-stream` the type is that of an event's data."""


_OF_MODEL = "Of the model that the path names."
_OF_KIND = {
    "name": "kind",
    "in": "query",
    "description": "Those of this kind alone.",
    "schema": {"type": "string", "enum": list(KINDS)},
    "example": "retrieval",
}
_IN_STATUS = {
    "name": "status",
    "in": "query",
    "description": "Those in this status alone.",
    "schema": {"type": "string", "enum": list(STATUSES)},
    "example": "QUEUED",
}
_LIMIT = {
    "name": "limit",
    "in": "query",
    "description": "How many, at the most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100},
    "example": 20,
}
_RECOMMEND_SEEN = {
    "name": "recommend_seen",
    "in": "query",
    "description": "Whether items that the user has met may be recommended.",
    "schema": {"type": "boolean", "default": False},
    "example": False,
}
_CATEGORY = {
    "name": "category",
    "in": "query",
    "description": "Only items of this category, letter for letter.",
    "example": "Comedy",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
_WINDOW = {
    "name": "window",
    "in": "query",
    "description": "The last hour or the last day.",
    "example": "1h",
    "schema": {"type": "string", "enum": list(WINDOWS), "default": "1h"},
}
_REASON = {
    "name": "reason",
    "in": "query",
    "description": "Text that the reason holds, in whatever case.",
    "example": "rating",
    "schema": {"type": "string", "maxLength": MAX_REASON},
}
_FROM_TOPIC = {
    "name": "topic",
    "in": "query",
    "description": "Those that came from this topic, with or without the prefix.",
    "example": "ratings",
    "schema": {"type": "string", "maxLength": MAX_TOPIC},
}
_USERS = {
    "name": "limit",
    "in": "query",
    "description": "How many, at the most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_USERS, "default": 10},
    "example": 5,
}
_LETTERS = {
    "name": "limit",
    "in": "query",
    "description": "How many, at the most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LETTERS, "default": 50},
    "example": 20,
}
_STEP = {
    "name": "step",
    "in": "query",
    "description": "By hour or by day.",
    "example": "day",
    "schema": {"type": "string", "enum": list(STEP_S), "default": "day"},
}
_ON_MAP = {
    "name": "limit",
    "in": "query",
    "description": "How many, at the most.",
    "example": 2_000,
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_MAP, "default": 2_000},
}
_QUERY = {
    "name": "query",
    "in": "query",
    "description": "Words that an item's id, title or categories have.",
    "example": "toy story",
    "schema": {"type": "string", "maxLength": MAX_QUERY},
}
_IDS = {
    "name": "id",
    "in": "query",
    "description": "These items, instead of a search.",
    "example": [examples.ITEM_ID],
    "schema": {
        "type": "array",
        "items": msgspec.json.schema(ItemId),
        "maxItems": MAX_IDS,
    },
}
_FOUND = {
    "name": "limit",
    "in": "query",
    "description": "How many, at the most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_FOUND, "default": 50},
    "example": 20,
}
_OFFSET = {
    "name": "offset",
    "in": "query",
    "description": "How many of those that match to pass over.",
    "schema": {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0},
    "example": 0,
}
_STABILITY = {
    "name": "stability",
    "in": "query",
    "description": "How many items change from one list to the next, at the most; without it, any.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 500},
    "example": 3,
}
_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the list that the client has.",
    "schema": {"type": "string"},
    "example": "1f0c9a7be2d4835a",
}
_Events = Annotated[list[AnyEvent], Meta(min_length=1, max_length=MAX_BULK)]
_Items = Annotated[list[Item], Meta(min_length=1, max_length=MAX_BULK)]
# JSON Schema's way to say: a user or a session, never both.
_OneOfTwo = Annotated[
    schemas.RecommendationRequest,
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
        schemas.EventsAnswer,
        Union[AnyEvent, _Events],
        example=examples.EVENT,
        errors=(413, 422, 503),
    ),
    ("POST", "/v1/recommendations"): Operation(
        answer=schemas.RecommendationAnswer,
        body=_OneOfTwo,
        example={"user_id": "42", "k": 10},
        errors=(409, 413, 422),
    ),
    ("POST", "/v1/models/{model_id}/recommendations"): Operation(
        answer=schemas.RecommendationAnswer,
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
        answer=schemas.ServedList, errors=(404, 422, 503)
    ),
    ("GET", "/v1/figures"): Operation(
        answer=schemas.Figures, parameters=(_WINDOW,), errors=(422, 503)
    ),
    ("GET", "/v1/replays"): Operation(answer=schemas.ReplayList, errors=(503,)),
    ("POST", "/v1/replays"): Operation(
        202,
        ReplayTask,
        schemas.ReplayRequest,
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
    ("GET", "/v1/topics"): Operation(answer=schemas.TopicList, errors=(503,)),
    ("GET", "/v1/dead-letters"): Operation(
        answer=schemas.DeadLetterList,
        parameters=(_REASON, _FROM_TOPIC, _LETTERS),
        errors=(422, 503),
    ),
    ("GET", "/v1/dead-letters/{letter_id}"): Operation(
        answer=schemas.DeadLetter, errors=(404, 422, 503)
    ),
    ("POST", "/v1/dead-letters/{letter_id}/resend"): Operation(
        answer=schemas.ResentLetter,
        body=schemas.ResendRequest,
        needs_body=False,
        example={"set": {"rating": "4.5"}, "dry_run": True},
        errors=(404, 409, 413, 422, 503),
    ),
    ("GET", "/v1/key"): Operation(answer=schemas.KeyInfo),
    ("GET", "/v1/trending"): Operation(
        answer=schemas.ItemList, parameters=(_K, _CATEGORY), errors=(422,)
    ),
    ("GET", "/v1/users"): Operation(
        answer=schemas.UserList, parameters=(_USERS,), errors=(422, 503)
    ),
    ("GET", "/v1/users/{user_id}/interactions"): Operation(
        answer=schemas.UserInteractions, errors=(422, 503)
    ),
    ("GET", "/v1/users/{user_id}/recommendations/stream"): Operation(
        answer=schemas.RecommendationAnswer,
        media="text/event-stream",
        parameters=(_K, _RECOMMEND_SEEN, _STABILITY, _LAST_EVENT_ID),
        errors=(422, 503),
    ),
    ("GET", "/v1/users/{user_id}/hidden"): Operation(answer=schemas.HiddenItems, errors=(422, 503)),
    ("PUT", "/v1/users/{user_id}/hidden/{item_id}"): Operation(204, errors=(409, 422, 503)),
    ("DELETE", "/v1/users/{user_id}/hidden/{item_id}"): Operation(204, errors=(422, 503)),
    ("POST", "/v1/users/{user_id}/token"): Operation(
        answer=schemas.TokenAnswer,
        body=schemas.TokenRequest,
        needs_body=False,
        example={"scopes": ["recommend"], "expires_s": 900},
        errors=(413, 422),
    ),
    ("POST", "/v1/users/{user_id}/merge"): Operation(
        answer=schemas.MergeAnswer,
        body=schemas.MergeRequest,
        example={"from": "anon-7d1f"},
        errors=(409, 413, 422, 503),
    ),
    ("DELETE", "/v1/users/{user_id}"): Operation(204, errors=(422, 503)),
    ("POST", "/v1/items"): Operation(
        202,
        schemas.ItemsAccepted,
        Union[Item, _Items],
        example={"item_id": "21253", "title": "Toy Story", "categories": ["Animation"]},
        errors=(413, 422, 503),
    ),
    ("GET", "/v1/items"): Operation(
        answer=schemas.FoundItems,
        parameters=(_QUERY, _CATEGORY, _IDS, _FOUND, _OFFSET),
        errors=(422, 503),
    ),
    ("GET", "/v1/items/{item_id}"): Operation(answer=Item, errors=(404, 422, 503)),
    ("PUT", "/v1/items/{item_id}"): Operation(
        202,
        schemas.ItemsAccepted,
        schemas.ItemBody,
        needs_body=False,
        example={"title": "Toy Story", "categories": ["Animation"], "price": 9.99},
        errors=(413, 422, 503),
    ),
    ("DELETE", "/v1/items/{item_id}"): Operation(202, schemas.ItemsAccepted, errors=(422, 503)),
    ("GET", "/v1/items/{item_id}/similar"): Operation(
        answer=schemas.ItemList, parameters=(_K,), errors=(404, 422)
    ),
    ("GET", "/v1/items/{item_id}/bought-together"): Operation(
        answer=schemas.ItemList, parameters=(_K,), errors=(404, 422)
    ),
    ("GET", "/v1/items/{item_id}/popularity"): Operation(
        answer=schemas.ItemPopularity, parameters=(_STEP,), errors=(422, 503)
    ),
    ("GET", "/v1/models/{model_id}/map"): Operation(
        answer=schemas.ItemMap, parameters=(_ON_MAP,), errors=(404, 409, 422, 503)
    ),
    ("GET", "/v1/models"): Operation(answer=schemas.ModelList, errors=(503,)),
    ("GET", "/v1/models/{model_id}/versions"): Operation(
        answer=schemas.VersionList, errors=(404, 422, 503)
    ),
    ("POST", "/v1/models/{model_id}/versions/{version}/activate"): Operation(
        answer=LiveVersion, errors=(404, 409, 422, 503)
    ),
    ("PUT", "/v1/models/{model_id}/versions/{version}/pin"): Operation(
        answer=schemas.Model, errors=(404, 409, 422, 503)
    ),
    ("DELETE", "/v1/models/{model_id}/pin"): Operation(204, errors=(409, 422, 503)),
    ("DELETE", "/v1/models/{model_id}/versions/{version}"): Operation(
        204, errors=(404, 409, 422, 503)
    ),
    ("PUT", "/v1/models/{model_id}"): Operation(answer=schemas.Model, errors=(422, 503)),
    ("DELETE", "/v1/models/{model_id}"): Operation(204, errors=(409, 422, 503)),
    ("POST", "/v1/models/{model_id}/rollback"): Operation(
        answer=LiveVersion, errors=(409, 422, 503)
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
        answer=schemas.TaskList, parameters=(_OF_KIND, _IN_STATUS, _LIMIT), errors=(422, 503)
    ),
    ("GET", "/v1/tasks/{task_id}"): Operation(answer=Task, errors=(404, 422, 503)),
    ("DELETE", "/v1/tasks/{task_id}"): Operation(
        answer=Task, also=(202,), errors=(404, 409, 422, 503)
    ),
    ("GET", "/v1/tasks/{task_id}/log"): Operation(
        answer=str, media="text/plain", errors=(404, 422, 503)
    ),
    ("GET", "/readyz"): Operation(answer=schemas.Ready, also=(503,)),
}


def document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI document of the routes that `OPERATIONS` describes."""
    types = [Problem]
    types += [of for each in OPERATIONS.values() for of in (each.body, each.answer) if of]
    schema_of, components = msgspec.json.schema_components(types, ref_template=_REF)
    schemas_by_type = dict(zip(map(repr, types), schema_of, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        if not isinstance(route, Route):
            continue
        for method in sorted((route.methods or set()) - {"HEAD"}):
            operation = _operation(method, route.path)
            if operation is not None:
                described = _describe(route, operation, schemas_by_type)
                paths.setdefault(route.path, {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace",
            "version": __version__,
            "description": "Events in, live recommendations out.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _operation(method: str, path: str) -> Operation | None:
    """Return what is known of a route; of a model's, what is known of the settings' own model's."""
    found = OPERATIONS.get((method, path))
    if found is not None or not path.startswith(f"{OF_MODEL}/"):
        return found
    same = OPERATIONS.get((method, "/v1" + path.removeprefix(OF_MODEL)))
    return same and msgspec.structs.replace(same, errors=(404, *same.errors))


def _describe(route: Route, operation: Operation, schemas_by_type: dict[str, Any]) -> Any:
    summary, _, more = (inspect.getdoc(route.endpoint) or "").partition("\n\n")
    if route.path.startswith(f"{OF_MODEL}/"):
        more = "\n\n".join(filter(None, (more, _OF_MODEL)))
    described: dict[str, Any] = {
        "operationId": route.endpoint.__name__,
        "summary": " ".join(summary.split()),
        "security": _security(route),
        "parameters": [*_path_parameters(route), *operation.parameters],
        "responses": _responses(operation, schemas_by_type, isinstance(route, Guarded)),
    }
    if more:
        described["description"] = more
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schemas_by_type[repr(operation.body)]}
        if operation.example is not None:
            content["example"] = msgspec.to_builtins(operation.example)
        contents = {_JSON: content}
        if operation.file is not None:
            contents[FORM] = {
                "schema": _form(schemas_by_type[repr(operation.body)], operation),
                "example": {REQUEST: examples.UPLOAD, operation.file: examples.FILE},
            }
        described["requestBody"] = {"required": operation.needs_body, "content": contents}
    return described


def _form(fields: dict[str, Any], operation: Operation) -> dict[str, Any]:
    """Return the schema of a form: the file, and the fields of the body as JSON."""
    return {
        "type": "object",
        "properties": {
            REQUEST: {**fields, "description": "Fields of the request, as JSON."},
            str(operation.file): {
                "type": "string",
                "format": "binary",
                "description": "A file of events: JSON lines, CSV or Parquet.",
            },
        },
        "additionalProperties": {
            "type": "string",
            "description": "A field of the request by itself.",
        },
    }


def _security(route: Route) -> list[dict[str, list[str]]]:
    """Return what opens the route, each with the scope that it needs."""
    if not isinstance(route, Guarded):
        return []
    schemes = ["key"]
    schemes += ["user_token"] if route.for_users else []
    schemes += ["stream_token"] if route.streams else []
    return [{scheme: [route.scope] if route.scope else []} for scheme in schemes]


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": what,
            "schema": msgspec.json.schema(of),
            "example": example,
        }
        for name in route.param_convertors
        for what, of, example in [_PATH_PARAMETERS[name]]
    ]


def _responses(operation: Operation, schemas_by_type: dict[str, Any], secured: bool) -> Any:
    answer: dict[str, Any] = {"description": "As asked."}
    if operation.answer is not None:
        answer["content"] = {operation.media: {"schema": schemas_by_type[repr(operation.answer)]}}
        example = examples.answer_of(operation.answer)
        if example is not None:
            answer["content"][operation.media]["example"] = example
    problem = {"schema": schemas_by_type[repr(Problem)]}
    errors = sorted({*operation.errors, *((401, 403, 429, 503) if secured else ())})
    refused = {
        str(status): {
            "description": "What is wrong, and the cure.",
            "content": {
                MEDIA_TYPE: {**problem, "example": examples.problem_of(status, operation.answer)}
            },
        }
        for status in errors
    }
    given = dict.fromkeys(map(str, (operation.status, *operation.also)), answer)
    return {**refused, **given}
