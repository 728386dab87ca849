"""The connection to Redis that every store shares."""

from __future__ import annotations

from importlib import resources

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from headrace.settings import Settings

_TIMEOUT_S = 5.0


def connect(settings: Settings, *, timeout_s: float = _TIMEOUT_S) -> Redis:
    """Return a client for the Redis of these settings; it connects when it is first used.

    `timeout_s` bounds each wait for an answer.
    It never repeats a command by itself: who calls knows whether to wait, and for how long.
    """
    client: Redis = Redis.from_url(
        settings.redis,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    return client


def load_script(name: str) -> str:
    """Return the text of a Lua script of this package."""
    return resources.files("headrace").joinpath(name).read_text(encoding="utf-8")


def text(value: object) -> str:
    """Return an answer of Redis's as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
