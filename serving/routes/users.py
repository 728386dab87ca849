"""Users: the session dictionary as it is held, and erasure."""

from __future__ import annotations

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from headrace.events import ItemId, UserId
from serving.bodies import json_response
from serving.paths import path_id
from serving.problems import RETRY_AFTER_S, Problem
from serving.schemas import HiddenItems, UserInteractions
from serving.services import services


async def get_interactions(request: Request) -> Response:
    """Return the user's session dictionary; an unknown user's is empty."""
    user_id = path_id(request, "user_id", UserId)
    session = await services(request).sessions.read(user_id)
    return json_response(
        UserInteractions(user_id, session.interactions(), session.applied, session.marks)
    )


async def get_hidden(request: Request) -> Response:
    """Return the items that the user has hidden, and when."""
    user_id = path_id(request, "user_id", UserId)
    return json_response(HiddenItems(user_id, await services(request).sessions.hidden(user_id)))


async def put_hidden(request: Request) -> Response:
    """Hide an item for good: no list for this user holds it until it is unhidden."""
    server, user_id = services(request), path_id(request, "user_id", UserId)
    item_id = path_id(request, "item_id", ItemId)
    await server.sessions.hide(user_id, item_id, now=server.clock())
    return Response(status_code=204)


async def delete_hidden(request: Request) -> Response:
    """Unhide an item; 204 for one that is not hidden, too."""
    user_id, item_id = path_id(request, "user_id", UserId), path_id(request, "item_id", ItemId)
    await services(request).sessions.unhide(user_id, item_id)
    return Response(status_code=204)


async def delete_user(request: Request) -> Response:
    """Erase the user: the session now, and from the log all events up to now.

    Nothing brings the user back: workers, replays and trainings ignore the user's events from
    before the erasure, while later ones count. A user that is not known is erased all the same. On
    503 the erasure may be half done: ask for it again.
    """
    user_id = path_id(request, "user_id", UserId)
    eraser = services(request).eraser
    erasure = await eraser.announce(user_id)
    try:
        await eraser.carry_out(erasure)
    except (RedisError, OSError) as exc:
        raise Problem(
            503,
            "The session store cannot be reached. Kafka knows of the erasure, and workers carry it "
            "out when they reach the store; erase again to be sure.",
            retry_after_s=RETRY_AFTER_S,
        ) from exc
    return Response(status_code=204)
