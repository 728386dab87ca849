"""Users: the session dictionary as it is held, and forgetting it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.events import UserId
from serving.bodies import json_response
from serving.paths import path_id
from serving.schemas import UserInteractions
from serving.services import services


async def get_interactions(request: Request) -> Response:
    """Return the user's session dictionary; an unknown user's is empty."""
    user_id = path_id(request, "user_id", UserId)
    session = await services(request).sessions.read(user_id)
    return json_response(
        UserInteractions(user_id, session.interactions(), session.applied, session.marks)
    )


async def delete_user(request: Request) -> Response:
    """Delete the user's session, and what is kept of it for the next transition."""
    user_id = path_id(request, "user_id", UserId)
    await services(request).sessions.delete(user_id)
    await services(request).transitions.forget(user_id)
    return Response(status_code=204)
