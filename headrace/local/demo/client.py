"""The HTTP API as one of its clients calls it.

aiohttp, not httpx: measured at 600 requests a second, it takes 0.4 ms of CPU a request, httpx
7 ms, which on two cores shared with the system would measure the client instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from headrace.catalog import Item
from headrace.errors import HeadraceError
from headrace.events import AnyEvent
from headrace.settings import Settings
from headrace.tasks import Task

TIMEOUT_S = 5.0
"""A request that has no whole answer by then has failed."""
_CONNECTIONS = 100
_SAID = 200
"""Characters quoted of an answer that was not expected."""

T = TypeVar("T")


class RequestFailed(HeadraceError):
    """A request's status was not the one of success, or no answer came in time."""


class Busy(RequestFailed):
    """The server has too much in hand (503 with `Retry-After`): nothing was done; ask later."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Recommendation(Struct, frozen=True):
    """One item of an answer."""

    id: str


class ModelName(Struct, frozen=True):
    """Which version answered."""

    version: str


class SessionState(Struct, frozen=True):
    """What the answer knew of the user."""

    marks: dict[str, int] = {}


class Accepted(Struct, frozen=True):
    """Where Kafka has put an event."""

    topic: str
    partition: int
    offset: int

    @property
    def mark(self) -> str:
        """The name of its topic's partition among a session's marks."""
        return f"{self.topic}/{self.partition}"


class Answer(Struct, frozen=True):
    """An answer to a request for recommendations, of which the demo reads this much."""

    recommendations: tuple[Recommendation, ...]
    model: ModelName | None
    session: SessionState | None

    def carries(self, event: Accepted) -> bool:
        """Return whether the session that this answers from has the event in it."""
        return self.session is not None and self.session.marks.get(event.mark, -1) >= event.offset


class Data(Struct, frozen=True):
    """What a version was trained on."""

    events: int


class Version(Struct, frozen=True):
    """A model version."""

    version: str
    live: bool
    data: Data
    metrics: dict[str, float]


class _AcceptedEvents(Struct, frozen=True):
    events: tuple[Accepted, ...]


class _Tasks(Struct, frozen=True):
    tasks: tuple[Task, ...]


class _Versions(Struct, frozen=True):
    versions: tuple[Version, ...]


class Client:
    """Calls of the API; each raises `RequestFailed` unless it succeeds, `Busy` where it may yet."""

    def __init__(self, http: aiohttp.ClientSession, settings: Settings) -> None:
        self._http = http
        self._versions = f"/v1/models/{settings.model_id}/versions"

    async def recommend(self, user_id: str, k: int) -> Answer:
        """Return k recommendations for the user."""
        raw = msgspec.json.encode({"user_id": user_id, "k": k})
        return await self._call("POST", "/v1/recommendations", 200, Answer, raw)

    async def send(self, event: AnyEvent) -> Accepted:
        """Send an event; return where Kafka, which has acknowledged it, has put it."""
        raw = msgspec.json.encode(event)
        return (await self._call("POST", "/v1/events", 202, _AcceptedEvents, raw)).events[0]

    async def put_items(self, items: Sequence[Item]) -> None:
        """Put items into the catalogue."""
        raw = msgspec.json.Encoder().encode_lines(items)
        await self._call("POST", "/v1/items", 202, Any, raw, content="application/x-ndjson")

    async def tasks(self) -> tuple[Task, ...]:
        """Return the newest trainings, newest first."""
        return (await self._call("GET", "/v1/tasks", 200, _Tasks)).tasks

    async def versions(self) -> tuple[Version, ...]:
        """Return the model's versions, newest first."""
        return (await self._call("GET", self._versions, 200, _Versions)).versions

    async def _call(
        self,
        method: str,
        path: str,
        status: int,
        answer: type[T],
        body: bytes | None = None,
        content: str = "application/json",
    ) -> T:
        headers = {"content-type": content} if body is not None else {}
        try:
            async with self._http.request(method, path, data=body, headers=headers) as response:
                raw = await response.read()
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as exc:
            raise RequestFailed(f"{method} {path}: {exc!r}") from exc
        if response.status != status:
            said = raw[:_SAID].decode(errors="replace")
            reason = f"{method} {path}: status {response.status}, {said}"
            retry_after_s = response.headers.get("retry-after", "")
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE and retry_after_s.isdecimal():
                raise Busy(reason, float(retry_after_s))
            raise RequestFailed(reason)
        try:
            return msgspec.json.decode(raw, type=answer)
        except msgspec.DecodeError as exc:
            raise RequestFailed(f"{method} {path}: {exc} in {raw[:_SAID]!r}") from exc


async def patiently(
    call: Callable[[], Awaitable[T]], slow_down: Callable[[float], object], patience_s: float
) -> T:
    """Return the answer of a call that is made again, when it is time to, while it raises `Busy`.

    `slow_down` is told each time for how many seconds to wait. Raises `Busy` when the next try
    would come after `patience_s` seconds.
    """
    began = time.monotonic()
    while True:
        try:
            return await call()
        except Busy as busy:
            if time.monotonic() - began + busy.retry_after_s > patience_s:
                raise
            slow_down(busy.retry_after_s)
            await asyncio.sleep(busy.retry_after_s)


@asynccontextmanager
async def connect_client(settings: Settings) -> AsyncIterator[Client]:
    """Give a client of the server of these settings; its connections end with the block."""
    headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    async with aiohttp.ClientSession(
        settings.url,
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
    ) as http:
        yield Client(http, settings)
