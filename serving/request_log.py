"""The log of requests: a line of JSON for each, which tells no key, no body and no user.

`user` is a keyed hash: equal for equal users, on every server, and of no use to whoever lacks the
secret in Redis, for otherwise the hashes of all likely ids could be made and looked up.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec import Struct

from headrace.settings import Settings

_EVERY_S = 0.1
"""As old are lines when they are written."""
_MOST = 100_000
"""Lines that wait for a reader who does not read; those that come then are left out."""


class RequestLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told of a request."""

    at: float
    """Unix seconds, when it had been answered."""
    method: str
    route: str
    """The route's path, never the one that was asked for, nor its query."""
    status: int
    ms: float
    key: str | None = None
    """The key's id."""
    user: str | None = None
    """The hash of the user that it is about."""


class RequestLog:
    """Writes a line for each request, with nothing before it, so that programs can read them.

    Lines are written many at a time and in a thread: whoever reads them may be slow, and a call of
    the system's for each would take longer than most of what a request does.
    """

    def __init__(self, settings: Settings, write: Callable[[bytes], object]) -> None:
        """`write` lets bytes out, and may block."""
        self._write = write
        self._is_on = settings.log_level in ("DEBUG", "INFO")
        self._lines: list[bytes] = []

    def tell(self, line: RequestLine) -> None:
        """Have the line written, unless the log's level leaves it out."""
        if self._is_on and len(self._lines) < _MOST:
            self._lines.append(msgspec.json.encode(line))

    async def follow(self) -> None:
        """Write what has been told, again and again, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Write what has been told so far."""
        lines, self._lines = self._lines, []
        if lines:
            # Whoever read the log may have gone away; requests go on.
            with suppress(OSError):
                self._write(b"\n".join((*lines, b"")))


def hash_user(user_id: str, secret: bytes) -> str:
    """Return what a user is called in the log."""
    # BLAKE2's own keyed mode; `person` parts it from other uses of the secret.
    # A lone surrogate cannot be in an id of ours, but may be in a path.
    raw = user_id.encode(errors="surrogatepass")
    return hashlib.blake2b(raw, key=secret, digest_size=8, person=b"request log").hexdigest()
