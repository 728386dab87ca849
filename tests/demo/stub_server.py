"""A server that answers as Headrace does, from a dictionary: what the demo's client is tried on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass
class StubServer:
    """Recommends each user what `next_items` says; an event shows in the session after a while."""

    next_items: dict[str, list[str]] = field(default_factory=dict)
    applied_after_s: float = 0.02
    failing_users: frozenset[str] = frozenset()
    turned_away: int = 0
    """How many of the next requests are told to come again at once."""
    calls: list[tuple[str, str]] = field(default_factory=list)
    """What was asked of it, in order: the call, and the user or item."""
    items: list[str] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    marks: dict[str, dict[str, int]] = field(default_factory=dict)
    version: str = "20261122T000000Z-abcdef"
    url: str = ""
    _offset: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[StubServer]:
        """Serve on a free port of the loopback until the block ends."""
        routes = [
            Route("/v1/recommendations", self._recommend, methods=["POST"]),
            Route("/v1/events", self._event, methods=["POST"]),
            Route("/v1/items", self._items, methods=["POST"]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", ws="none")
        server = uvicorn.Server(config)
        server.config.load()
        socket = config.bind_socket()
        serving = asyncio.create_task(server._serve([socket]))
        self.url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        try:
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            yield self
        finally:
            server.should_exit = True
            await serving

    async def _recommend(self, request: Request) -> Response:
        asked = await request.json()
        user_id = asked["user_id"]
        self.calls.append(("ask", user_id))
        self.authorizations.add(request.headers.get("authorization", ""))
        if self.turned_away > 0:
            return self._busy()
        if user_id in self.failing_users:
            return JSONResponse({"title": "as told"}, status_code=503)
        item_ids = self.next_items.get(user_id, [])[: asked["k"]]
        return JSONResponse(
            {
                "id": "some",
                "recommendations": [{"id": item_id, "score": 0.5} for item_id in item_ids],
                "message": None,
                "model": {"id": "default", "version": self.version},
                "session": {"interactions": 0, "marks": self.marks.get(user_id, {})},
            }
        )

    async def _event(self, request: Request) -> Response:
        event = await request.json()
        if self.turned_away > 0:
            return self._busy()
        self.calls.append(("send", event["user_id"]))
        offset, self._offset = self._offset, self._offset + 1
        marks = self.marks.setdefault(event["user_id"], {})
        asyncio.get_running_loop().call_later(
            self.applied_after_s, lambda: marks.update({"ratings/0": offset})
        )
        accepted = {"event_id": event["event_id"], "status": "accepted", "topic": "ratings"}
        answer = {"accepted": 1, "events": [{**accepted, "partition": 0, "offset": offset}]}
        return JSONResponse(answer, status_code=202)

    def _busy(self) -> Response:
        self.turned_away -= 1
        return JSONResponse({"title": "busy"}, status_code=503, headers={"retry-after": "0"})

    async def _items(self, request: Request) -> Response:
        if self.turned_away > 0:
            return self._busy()
        if request.headers["content-type"] != "application/x-ndjson":
            return JSONResponse({"title": "NDJSON is asked for"}, status_code=415)
        self.items += (await request.body()).decode().splitlines()
        return JSONResponse({"accepted": len(self.items)}, status_code=202)
