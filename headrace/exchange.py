"""Exchanging the state in Redis for another while workers run.

1. A record says that the state is being exchanged: workers that start wait while it is there.
2. The generation is changed: a worker that sees another one than it knew ends before it writes.
3. The connections of all writers are ended, so that each sees it with its next command.

From then on nobody writes to the state but the one who exchanges it; the record is deleted last.
Whoever exchanges the state is a writer as well, so a second one that begins ends the first.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from headrace import changed_users
from headrace.erasures import Erasures
from headrace.errors import HeadraceError
from headrace.identity import IdentityGuard, generation_key, writer_name
from headrace.redis_eraser import RedisEraser
from headrace.settings import Settings
from headrace.store import connect, text

REDIS_TIMEOUT_S = 60.0
"""Longest wait for an answer of those who move whole partitions at once."""


_CLOCKS_APART_S = 300.0
"""By so much two machines' clocks may differ; to erase a user twice does no harm."""

ReadErasures = Callable[[], Awaitable[Erasures]]
"""Returns who was erased up to now; raises `HeadraceError` when that cannot be told."""


class Exchange(Struct, frozen=True, kw_only=True):
    """What is exchanging the state."""

    command: str
    """Run again it goes on, after it was killed: `headrace promote shadow`."""
    phase: str
    at: float
    """Unix seconds."""


class ExchangeStore:
    """The record in Redis of an exchange that is under way."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._key = exchange_key(settings)

    async def read(self) -> Exchange | None:
        """Return the exchange that is under way. Raises `redis.exceptions.RedisError`."""
        raw = await self._redis.get(self._key)
        return None if raw is None else msgspec.json.decode(raw, type=Exchange)

    async def store(self, command: str, phase: str) -> None:
        """Store that this command is in this phase."""
        exchange = Exchange(command=command, phase=phase, at=time.time())
        await self._redis.set(self._key, msgspec.json.encode(exchange))

    async def delete(self) -> None:
        """Delete the record: workers go on."""
        await self._redis.delete(self._key)


@asynccontextmanager
async def exchanging(
    settings: Settings, command: str, phase: str, *, takes_over: bool = False
) -> AsyncIterator[Redis]:
    """Keep all writers out of the state, and yield a client to exchange it with.

    `phase` is the one to begin with; one that the same command was killed in stays. The block ends
    with everything done: an exception leaves the record, and workers wait until the command is run
    again. Raises `HeadraceError` when another exchange was not brought to its end, unless this one
    `takes_over`, which needs nothing of what is there.
    """
    plain = connect(settings, timeout_s=REDIS_TIMEOUT_S)
    try:
        store = ExchangeStore(plain, settings)
        if not takes_over:
            await check_no_other(store, command)
        if takes_over or await store.read() is None:
            await store.store(command, phase)
    finally:
        await plain.aclose()
    async with sole_writer(settings) as writer:
        yield writer
        await ExchangeStore(writer, settings).delete()
        # Servers' streams show what there is now.
        await writer.publish(changed_users.channel(settings), changed_users.EVERYONE)


@asynccontextmanager
async def sole_writer(settings: Settings) -> AsyncIterator[Redis]:
    """Yield a client that alone writes to a state: whoever wrote to it before gives way.

    Raises `HeadraceError` when another one has come meanwhile, and later when one comes.
    """
    plain = connect(settings, timeout_s=REDIS_TIMEOUT_S)
    try:
        generation = secrets.token_hex(8)
        await plain.set(generation_key(settings), generation)
        await _end_writers(plain, settings)
    finally:
        await plain.aclose()
    writer = connect(
        settings, timeout_s=REDIS_TIMEOUT_S, on_connect=IdentityGuard(settings, give_way)
    )
    try:
        if text(await writer.get(generation_key(settings))) != generation:
            give_way("another command has taken the state over")
        yield writer
    finally:
        await writer.aclose()


async def check_no_other(store: ExchangeStore, command: str | None = None) -> None:
    """Raise `HeadraceError` when the exchange of another command was not brought to its end.

    Without a command of one's own any exchange is another's.
    """
    found = await store.read()
    if found is not None and found.command != command:
        raise HeadraceError(
            f"`{found.command}` was begun and has not ended; workers wait for it. If it does not "
            "run any more, run it again first."
        )


def exchange_key(settings: Settings) -> str:
    """Return the key of the record of an exchange."""
    return settings.state_key("exchange")


async def _end_writers(redis: Redis, settings: Settings) -> None:
    """End all connections of writers; those made from here on see the new generation."""
    name = writer_name(settings)
    clients: list[dict[str, Any]] = await redis.client_list()
    for client in clients:
        if client["name"] == name:
            await redis.client_kill_filter(_id=client["id"])


def give_way(reason: str) -> NoReturn:
    """End a command whose state was exchanged under it; for `IdentityGuard`."""
    raise HeadraceError(f"{reason[0].upper()}{reason[1:]}; run the command again.")


async def erase_since(redis: Redis, settings: Settings, erasures: Erasures, since: float) -> None:
    """Erase from a state of this moment, in Unix seconds, the users who were erased after it."""
    eraser = RedisEraser(redis, settings)
    for erasure in erasures.by_user.values():
        if erasure.at >= since - _CLOCKS_APART_S:
            await eraser.erase(erasure)
