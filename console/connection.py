"""Connections to the server: one client a page, and one watch over whether it answers at all."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import msgspec

from console.calls import CallLog, LoggedTransport
from headrace_client import AsyncClient, Retries
from headrace_client.types import Ready

TIMEOUT_S = 10.0
_RETRIES = Retries(attempts=3, first_s=0.2, within_s=2.0)
"""Somebody is looking: what takes longer is shown as a fault, and asked again by the page."""
_WATCH_S = 2.0


class Server:
    """The server that this console is for."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # Made once: reading the certificates takes longer than a call.
        self._tls: ssl.SSLContext | bool = (
            ssl.create_default_context() if self.url.startswith("https:") else False
        )

    def client(self, key: str, log: CallLog | None = None) -> AsyncClient:
        """Return a client with this key, whose calls are noted in `log`; close it at the end."""
        http = self.http(log)
        return AsyncClient(self.url, key, timeout_s=TIMEOUT_S, retries=_RETRIES, http=http)

    def http(self, log: CallLog | None = None) -> httpx.AsyncClient:
        """Return what makes the connections of one client."""
        transport = None if log is None else LoggedTransport(log, self._tls)
        return httpx.AsyncClient(verify=self._tls, transport=transport, trust_env=False)


@dataclass(frozen=True)
class Health:
    """Whether the server answers, and since when that is so."""

    answers: bool | None
    """None: not asked yet."""
    ready: bool
    words: str
    since: float
    """Unix seconds."""


class Watch:
    """Asks the server how it is, once for all pages, while any is open."""

    def __init__(self, server: Server) -> None:
        self.health = Health(None, False, "Asking the server …", time.time())
        self._server = server
        self._listeners: set[Callable[[Health], None]] = set()
        self._task: asyncio.Task[None] | None = None

    def listen(self, listener: Callable[[Health], None]) -> Callable[[], None]:
        """Call the listener now and upon each change; return what ends that."""
        self._listeners.add(listener)
        listener(self.health)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="watch the server")
        return lambda: self._listeners.discard(listener)

    async def _run(self) -> None:
        async with self._server.http() as http:
            while self._listeners:
                self._take(await _look(http, self._server.url))
                await asyncio.sleep(_WATCH_S)
            # Before anything is waited for: whoever listens meanwhile needs another watch.
            self._task = None

    def _take(self, found: Health) -> None:
        now = self.health
        if (found.answers, found.ready, found.words) == (now.answers, now.ready, now.words):
            return
        self.health = found
        for listener in tuple(self._listeners):
            listener(found)


async def _look(http: httpx.AsyncClient, url: str) -> Health:
    try:
        answer = await http.get(f"{url}/readyz", timeout=TIMEOUT_S)
        ready = msgspec.json.decode(answer.content, type=Ready)
    except httpx.RequestError:
        return Health(False, False, "Server does not answer", time.time())
    except msgspec.DecodeError:
        return Health(False, False, "No server of Headrace answers", time.time())
    away = [name for name in ("redis", "kafka") if not getattr(ready, name)]
    if away:
        return Health(True, False, f"{' and '.join(away)} away".capitalize(), time.time())
    return Health(True, True, "Server ready", time.time())
