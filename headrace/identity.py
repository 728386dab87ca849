"""Whether Redis is still the one it was: what a writer must know before it writes.

A Redis that was restarted may have lost its last second. A new event written there first would
carry its user's mark past the lost ones, and nothing could bring them back. So a writer looks at
the identity on each connection before it sends anything else; when it is another one, the writer
begins again from the positions that Redis remembers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from redis.asyncio.connection import AbstractConnection

from headrace.settings import Settings
from headrace.store import text


class IdentityGuard:
    """Looks at each new connection of a client; `headrace.store.connect` takes it.

    Redis's run id is another after each start and after a failover. The generation is ours: whoever
    exchanges the state under the writers changes it, and ends their connections.
    """

    def __init__(self, settings: Settings, on_change: Callable[[str], NoReturn]) -> None:
        """`on_change` gets a line for the log, and ends the writer."""
        self._generation_key = generation_key(settings)
        self._name = writer_name(settings)
        self._on_change = on_change
        self._known: dict[str, tuple[str, str]] = {}
        """By address."""

    async def __call__(self, connection: AbstractConnection) -> None:
        """Look at a new connection. Raises `redis.exceptions.RedisError`."""
        # Before the generation is read: whoever changes it ends the connections of this name then.
        await _set_name(connection, self._name)
        address = repr(getattr(connection, "path", None) or _address(connection))
        found = (await _run_id(connection), await _get(connection, self._generation_key))
        known = self._known.setdefault(address, found)
        if found[0] != known[0]:
            self._on_change("Redis was restarted, or is another one, and may have lost something")
        if found[1] != known[1]:
            self._on_change("the state in Redis was exchanged for another or taken over")


def generation_key(settings: Settings) -> str:
    """Return the key of the generation: a text that differs after the state was exchanged."""
    return settings.state_key("generation")


def writer_name(settings: Settings) -> str:
    """Return the name that Redis lists the connections of writers of the state under."""
    return settings.state_key("writer")


def _address(connection: AbstractConnection) -> tuple[object, object]:
    return getattr(connection, "host", None), getattr(connection, "port", None)


async def _set_name(connection: AbstractConnection, name: str) -> None:
    await connection.send_command("CLIENT", "SETNAME", name)
    await connection.read_response()


async def _run_id(connection: AbstractConnection) -> str:
    await connection.send_command("INFO", "server")
    lines = text(await connection.read_response()).splitlines()
    [run_id] = (line.partition(":")[2] for line in lines if line.startswith("run_id:"))
    return run_id


async def _get(connection: AbstractConnection, key: str) -> str:
    await connection.send_command("GET", key)
    value = await connection.read_response()
    return "" if value is None else text(value)
