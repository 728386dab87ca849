"""The log of requests: a line of JSON for each, which tells no key, no body and no user.

`user` is a keyed hash: equal for equal users, on every server, and of no use to whoever lacks the
secret in Redis, for otherwise the hashes of all likely ids could be made and looked up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec import Struct

from headrace.settings import Settings


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

    Not by `logging`, which takes three times as long.
    """

    def __init__(self, settings: Settings, write: Callable[[str], object]) -> None:
        """`write` takes text and lets it out at once, as standard error does."""
        self._write = write
        self._is_on = settings.log_level in ("DEBUG", "INFO")

    def tell(self, line: RequestLine) -> None:
        """Write the line, unless the log's level leaves it out."""
        if self._is_on:
            # Whoever read the log may have gone away; requests go on.
            with suppress(OSError):
                self._write(f"{msgspec.json.encode(line).decode()}\n")


def hash_user(user_id: str, secret: bytes) -> str:
    """Return what a user is called in the log."""
    # BLAKE2's own keyed mode; `person` parts it from other uses of the secret.
    # A lone surrogate cannot be in an id of ours, but may be in a path.
    raw = user_id.encode(errors="surrogatepass")
    return hashlib.blake2b(raw, key=secret, digest_size=8, person=b"request log").hexdigest()
