"""What stands in paths and queries: each parameter as the document shows it."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.events import ItemId, UserId
from headrace.figures import WINDOWS
from headrace.impressions import ImpressionId
from headrace.model_settings import ModelId
from headrace.popularity import STEP_S
from headrace.training_kinds import KINDS
from headrace.versions import VersionName
from serving import examples
from serving.routes.items import MAX_FOUND, MAX_IDS, MAX_OFFSET, MAX_QUERY
from serving.routes.models import MAX_MAP
from serving.routes.tasks import MAX_LIMIT, STATUSES
from serving.routes.topics import MAX_LETTERS, MAX_REASON, MAX_TOPIC
from serving.routes.users import MAX_USERS
from serving.schemas.dead_letters import LetterCursor, LetterId
from serving.schemas.replays import ReplayId
from serving.schemas.tasks import TaskId

PATH_PARAMETERS: dict[str, tuple[str, Any, str]] = {
    "user_id": ("The user's id.", UserId, examples.USER_ID),
    "item_id": ("The item's id.", ItemId, examples.ITEM_ID),
    "model_id": ("The model's id.", ModelId, examples.MODEL_ID),
    "letter_id": ("The dead letter's id.", LetterId, examples.LETTER_ID),
    "replay_id": ("The replay's id.", ReplayId, examples.REPLAY_ID),
    "task_id": ("The task's id.", TaskId, examples.TASK_ID),
    "version": ("The version's name.", VersionName, examples.VERSION),
    "recommendation_id": ("The id of an answer.", ImpressionId, examples.LIST_ID),
}
"""By name: what it is, its type, an example."""


def _limit(*, most: int, default: int, example: int) -> dict[str, Any]:
    """Return the parameter that says how many are wanted."""
    return {
        "name": "limit",
        "in": "query",
        "description": "How many, at the most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": most, "default": default},
        "example": example,
    }


K = {
    "name": "k",
    "in": "query",
    "description": "How many, at the most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 500, "default": 10},
    "example": 10,
}
OF_KIND = {
    "name": "kind",
    "in": "query",
    "description": "Those of this kind alone.",
    "schema": {"type": "string", "enum": list(KINDS)},
    "example": "retrieval",
}
IN_STATUS = {
    "name": "status",
    "in": "query",
    "description": "Those in this status alone.",
    "schema": {"type": "string", "enum": list(STATUSES)},
    "example": "QUEUED",
}
LIMIT = _limit(most=MAX_LIMIT, default=100, example=20)
RECOMMEND_SEEN = {
    "name": "recommend_seen",
    "in": "query",
    "description": "Whether items that the user has met may be recommended.",
    "schema": {"type": "boolean", "default": False},
    "example": False,
}
CATEGORY = {
    "name": "category",
    "in": "query",
    "description": "Only items of this category, letter for letter.",
    "example": "Comedy",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
WINDOW = {
    "name": "window",
    "in": "query",
    "description": "The last hour or the last day.",
    "example": "1h",
    "schema": {"type": "string", "enum": list(WINDOWS), "default": "1h"},
}
REASON = {
    "name": "reason",
    "in": "query",
    "description": "Text that the reason holds, in whatever case.",
    "example": "rating",
    "schema": {"type": "string", "maxLength": MAX_REASON},
}
FROM_TOPIC = {
    "name": "topic",
    "in": "query",
    "description": "Those that came from this topic, with or without the prefix.",
    "example": "ratings",
    "schema": {"type": "string", "maxLength": MAX_TOPIC},
}
USERS = _limit(most=MAX_USERS, default=10, example=5)
LETTER_CURSOR = {
    "name": "cursor",
    "in": "query",
    "description": "The `cursor` of the page before: what follows on it, older letters.",
    "example": examples.LETTER_CURSOR,
    "schema": msgspec.json.schema(LetterCursor),
}
LETTERS = _limit(most=MAX_LETTERS, default=50, example=20)
STEP = {
    "name": "step",
    "in": "query",
    "description": "By hour or by day.",
    "example": "day",
    "schema": {"type": "string", "enum": list(STEP_S), "default": "day"},
}
ON_MAP = _limit(most=MAX_MAP, default=2_000, example=2_000)
ROLLBACK_TO = {
    "name": "to",
    "in": "query",
    "description": "The version that the rollback is meant to lead to; where it leads elsewhere "
    "by now, nothing is done (409).",
    "example": examples.VERSION,
    "schema": msgspec.json.schema(VersionName),
}
QUERY = {
    "name": "query",
    "in": "query",
    "description": "Words that an item's id, title or categories have.",
    "example": "toy story",
    "schema": {"type": "string", "maxLength": MAX_QUERY},
}
IDS = {
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
FOUND = _limit(most=MAX_FOUND, default=50, example=20)
OFFSET = {
    "name": "offset",
    "in": "query",
    "description": "How many of those that match to pass over.",
    "schema": {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0},
    "example": 0,
}
DIVERSITY = {
    "name": "diversity",
    "in": "query",
    "description": "How much unlike each other the items are to be: 0 ranks by score alone, 1 by "
    "unlikeness alone.",
    "schema": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
    "example": 0.3,
}
EXPLAIN = {
    "name": "explain",
    "in": "query",
    "description": "Whether each item tells which interactions moved it, in `because`.",
    "schema": {"type": "boolean", "default": False},
    "example": True,
}
STABILITY = {
    "name": "stability",
    "in": "query",
    "description": "How many items change from one list to the next, at the most; without it, any.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 500},
    "example": 3,
}
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the list that the client has.",
    "schema": {"type": "string"},
    "example": "1f0c9a7be2d4835a.5c0f9a7be2d4435a8b1f0c9d7e6a3b2c",
}
