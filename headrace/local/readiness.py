"""How one knows that a part is ready: by what it answers, not by how long one has waited."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from redis.exceptions import RedisError

from headrace.errors import HeadraceError
from headrace.heartbeats import Heartbeat, HeartbeatStore
from headrace.local.parts import Check
from headrace.secrets import without_password
from headrace.settings import Settings
from headrace.store import connect
from headrace.topics import ensure_topics

T = TypeVar("T")
_TIMEOUT_S = 2.0


def broker_has_topics(settings: Settings) -> Check:
    """Return a check that the broker answers; it makes the topics that are missing."""

    async def check(_: int) -> bool:
        host, _sep, port = settings.kafka.split(",")[0].rpartition(":")
        if not await _listens(host, int(port)):
            return False
        await in_daemon_thread(lambda: ensure_topics(settings))
        return True

    return check


def redis_answers(settings: Settings) -> Check:
    """Return a check that Redis answers a PING, which it does not while it loads its data."""

    async def check(_: int) -> bool:
        client = connect(settings)
        try:
            return bool(await client.ping())
        except RedisError:
            return False
        finally:
            await client.aclose()

    return check


def beats(settings: Settings, part: str, *, state: str | None = None) -> Check:
    """Return a check that the process of this id tells Redis that it is well, and in this state."""

    async def check(pid: int) -> bool:
        return any(
            heartbeat.pid == pid and state in (None, heartbeat.state)
            for heartbeat in await read_heartbeats(settings, part)
        )

    return check


def server_is_ready(settings: Settings) -> Check:
    """Return a check that the server calls itself ready."""

    async def check(_: int) -> bool:
        return await is_ready(settings.url)

    return check


def lives(url: str) -> Check:
    """Return a check that what is at this address says that it lives."""

    async def check(_: int) -> bool:
        return await _answers(f"{url}/livez")

    return check


async def is_ready(url: str) -> bool:
    """Return whether the server at this address calls itself ready."""
    return await _answers(f"{url}/readyz")


async def _answers(url: str) -> bool:
    import httpx

    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


async def read_heartbeats(settings: Settings, part: str) -> list[Heartbeat]:
    """Return the heartbeats of this part's processes; none when Redis is away."""
    client = connect(settings)
    try:
        return await HeartbeatStore(client, settings).read(part)
    except RedisError:
        return []
    finally:
        await client.aclose()


async def check_servers(settings: Settings, *, kafka: bool, redis: bool) -> None:
    """Look at the servers that the user named, and make the topics there.

    Raises `HeadraceError` when one of them does not answer.
    """
    if redis and not await redis_answers(settings)(0):
        raise HeadraceError(
            f"Redis at {without_password(settings.redis)} does not answer. Is it running, and is "
            "--redis right? Without --redis the stack runs one of its own."
        )
    if kafka:
        await in_daemon_thread(lambda: ensure_topics(settings))


async def in_daemon_thread(function: Callable[[], T]) -> T:
    """Run a function that blocks. One that hangs does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(settling: Callable[[], None]) -> None:
        # The loop may be closed by now, and the future cancelled: nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settling)

    def work() -> None:
        try:
            result = function()
        except Exception as exc:  # noqa: BLE001 - whoever awaits it gets it
            error = exc
            settle(lambda: None if outcome.done() else outcome.set_exception(error))
        else:
            settle(lambda: None if outcome.done() else outcome.set_result(result))

    threading.Thread(target=work, daemon=True).start()
    return await outcome


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), _TIMEOUT_S)
    except (OSError, asyncio.TimeoutError):
        return False
    writer.close()
    return True
