"""The key that a request came with."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from serving.bodies import json_response
from serving.callers import caller_of
from serving.schemas.server import KeyInfo
from serving.services import services


async def get_key(request: Request) -> Response:
    """Return what the key that was sent may be used for."""
    caller = caller_of(request)
    key = services(request).key_ring.key(caller)
    if key is None:
        return json_response(KeyInfo(None, "", list(caller.scopes), None))
    return json_response(KeyInfo(key.id, key.name, list(key.scopes), key.expires_at))
