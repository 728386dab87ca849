"""The HTTP calls that a page has made, as lines of curl to copy."""

from __future__ import annotations

import asyncio
import shlex
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx

_LONGEST_BODY = 2_000
"""Characters of a body that a line holds."""
URL, KEY = "$HEADRACE_URL", "$HEADRACE_API_KEY"
"""What stands for address and key, as `headrace env` sets them: no line holds a secret."""


@dataclass(frozen=True)
class Call:
    """One call, and its answer once there is one."""

    number: int
    """From 1, in the order of the calls of a page."""
    method: str
    path: str
    """With its query."""
    status: int | None
    """None: there is no answer, and none will come once `took_ms` is known."""
    took_ms: float | None
    """Until the answer's head, or until it was given up; a stream goes on after that."""
    curl: str
    cancelled: bool = False
    """Whether the page itself had no more use for the answer."""


class CallLog:
    """Tells of the calls of one page; one that nobody answers is told of, too."""

    def __init__(self, on_call: Callable[[Call], None] = lambda _: None) -> None:
        self.on_call = on_call
        """`on_call` is told of each call twice: when it is made, and when it is over."""
        self._number = 0

    @contextmanager
    def noting(self, request: httpx.Request) -> Iterator[Callable[[httpx.Response], None]]:
        """Note a call that is made within the block, which is given what takes its answer."""
        self._number += 1
        path = request.url.raw_path.decode("ascii", errors="replace")
        call = Call(self._number, request.method, path, None, None, curl_of(request))
        status: int | None = None
        cancelled = False

        def answered(response: httpx.Response) -> None:
            nonlocal status
            status = response.status_code

        self.on_call(call)
        began = time.perf_counter()
        try:
            yield answered
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            took_ms = 1_000 * (time.perf_counter() - began)
            self.on_call(replace(call, status=status, took_ms=took_ms, cancelled=cancelled))


class LoggedTransport(httpx.AsyncHTTPTransport):
    """Makes calls as httpx does, and notes them, whatever comes of them."""

    def __init__(self, log: CallLog, verify: ssl.SSLContext | bool) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._log = log

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make one call."""
        with self._log.noting(request) as answered:
            response = await super().handle_async_request(request)
            answered(response)
        return response


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
        is_short = len(body) <= _LONGEST_BODY
        words += ["-d", shlex.quote(body.rstrip("\n")) if is_short else "@body.json"]
        # What is cut is no JSON.
        words += [] if is_short else [f"# a body of {len(body):,} characters"]
    return " ".join(words)


def _is_plain(path: str) -> bool:
    return not set(path) & set("\"'`$\\!")
