"""Tokens of users: what a shop's own server gets for the browsers and apps of its users."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.events import UserId
from serving.bodies import json_response, read_json
from serving.callers import caller_of
from serving.paths import path_id
from serving.problems import Problem
from serving.schemas.users import TokenAnswer, TokenRequest
from serving.services import services
from serving.user_tokens import UserToken


async def post_token(request: Request) -> Response:
    """Make a token for one user, for at most an hour, to give to a browser or an app.

    It opens what the API calls this user's own, as far as the key that asks for it does.
    """
    server, caller = services(request), caller_of(request)
    user_id = path_id(request, "user_id", UserId)
    asked = await read_json(request, TokenRequest)
    lacking = next((scope for scope in asked.scopes if scope not in caller.scopes), None)
    if lacking is not None:
        raise Problem(403, f"This key has not the scope {lacking}.", needs=lacking)
    token = UserToken(user_id, asked.scopes, server.clock() + asked.expires_s, caller.key_id)
    return json_response(
        TokenAnswer(server.key_ring.issue(token), user_id, asked.scopes, token.expires_at),
        headers={"Cache-Control": "no-store"},
    )
