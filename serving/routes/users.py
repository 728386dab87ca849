"""Users: the session dictionary as it is held, and forgetting it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from serving.bodies import json_response
from serving.schemas import UserInteractions
from serving.services import services


async def get_interactions(request: Request) -> Response:
    """Return the user's session dictionary; an unknown user's is empty."""
    user_id = request.path_params["user_id"]
    session = await services(request).sessions.read(user_id)
    return json_response(
        UserInteractions(user_id, session.interactions(), session.applied, session.marks)
    )


async def delete_user(request: Request) -> Response:
    """Delete the user's session."""
    await services(request).sessions.delete(request.path_params["user_id"])
    return Response(status_code=204)
