"""The HTTP calls that a page has made, as lines of curl to copy."""

from __future__ import annotations

import shlex
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import httpx

_KEPT = 40
_LONGEST_BODY = 2_000
"""Characters of a body that a line shows."""
URL, KEY = "$HEADRACE_URL", "$HEADRACE_API_KEY"
"""What stands for address and key, as `headrace env` sets them: no line holds a secret."""


@dataclass(frozen=True)
class Call:
    """One call and its answer."""

    number: int
    """From 1, in the order of the calls of a page."""
    method: str
    path: str
    """With its query."""
    status: int
    took_ms: float
    """Until the answer's head; a stream goes on after that."""
    at: float
    """Unix seconds."""
    curl: str


class CallLog:
    """The newest calls of one page, newest first."""

    def __init__(self, on_call: Callable[[Call], None] = lambda _: None) -> None:
        self.on_call = on_call
        self.calls: deque[Call] = deque(maxlen=_KEPT)
        self._number = 0

    def hooks(self) -> dict[str, list[Callable[..., object]]]:
        """Return what `httpx.AsyncClient` calls around each request."""
        return {"request": [self._began], "response": [self._answered]}

    async def _began(self, request: httpx.Request) -> None:
        request.extensions = {**request.extensions, "began": time.perf_counter()}

    async def _answered(self, response: httpx.Response) -> None:
        request = response.request
        self._number += 1
        call = Call(
            self._number,
            request.method,
            request.url.raw_path.decode("ascii", errors="replace"),
            response.status_code,
            1_000 * (time.perf_counter() - request.extensions["began"]),
            time.time(),
            curl_of(request),
        )
        self.calls.appendleft(call)
        self.on_call(call)


def curl_of(request: httpx.Request) -> str:
    """Return the line that makes the same call in a shell with `HEADRACE_URL` and its key set."""
    path = request.url.raw_path.decode("ascii", errors="replace")
    address = f'"{URL}{path}"' if _is_plain(path) else f'"{URL}"{shlex.quote(path)}'
    words = ["curl", "-N" if path.partition("?")[0].endswith("/stream") else "-s"]
    body = request.content.decode(errors="replace")
    if request.method != ("POST" if body else "GET"):
        words += ["-X", request.method]
    words += [address, "-H", f'"Authorization: Bearer {KEY}"']
    media = request.headers.get("content-type", "")
    if media and media != "application/json":
        words += ["-H", shlex.quote(f"Content-Type: {media}")]
    if body:
        shown = body if len(body) <= _LONGEST_BODY else body[:_LONGEST_BODY] + "…"
        words += ["-d", shlex.quote(shown.rstrip("\n"))]
    return " ".join(words)


def _is_plain(path: str) -> bool:
    return not set(path) & set("\"'`$\\!")
