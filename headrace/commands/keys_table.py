"""Making, listing and revoking API keys in the Redis of the settings."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import TypeVar, cast

from redis.exceptions import RedisError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace.commands.addresses import find_settings
from headrace.commands.durations import seconds
from headrace.commands.output import output
from headrace.errors import HeadraceError
from headrace.keys import SCOPES, ApiKey, KeyStore, Scope, make_key
from headrace.secrets import without_password
from headrace.store import connect

_Found = TypeVar("_Found")


def create_key(
    scopes: str,
    *,
    name: str,
    expires: str | None,
    rate_per_s: float | None,
    burst: int | None,
) -> None:
    """Make a key and print it on standard output; what to know of it goes to standard error."""
    key, shown = make_key(
        _scopes(scopes),
        now=time.time(),
        name=name,
        lives_s=None if expires is None else seconds(expires, "--expires"),
        rate_per_s=rate_per_s,
        burst=burst,
    )
    _with_store(lambda store: store.add(key))
    Console(stderr=True).print(
        f"Key {key.id} for {', '.join(key.scopes)}, {_until(key)}. Keep it: it is not shown again."
    )
    print(shown)


def list_keys() -> None:
    """Print the keys, the oldest first."""
    console = output()
    found = _with_store(lambda store: store.all())
    if found:
        console.print(_table(found, time.time()))
    else:
        console.print("There are no keys yet; `headrace keys create --scope …` makes one.")


def revoke_key(key_id: str) -> None:
    """Forget a key. Raises `KeyNotFound`."""
    _with_store(lambda store: store.remove(key_id))
    output().print(f"Key {escape(key_id)} is revoked; servers refuse it from the next second on.")


def _scopes(listed: str) -> tuple[Scope, ...]:
    names = tuple(filter(None, (name.strip() for name in listed.split(","))))
    unknown = [name for name in names if name not in SCOPES]
    if unknown or not names:
        wrong = repr(unknown[0]) if unknown else "nothing"
        raise HeadraceError(f"--scope names {wrong}; there are {', '.join(SCOPES)}.")
    return cast(tuple[Scope, ...], names)


def _table(keys: Iterable[ApiKey], now: float) -> Table:
    table = Table("key", "name", "scopes", "created", "ends", "requests a second", box=None)
    for key in keys:
        ends = f"[red]{_until(key)}[/]" if key.has_expired(now) else _until(key)
        rate = "" if key.rate_per_s is None else f"{key.rate_per_s:g}"
        table.add_row(
            key.id, escape(key.name), ", ".join(key.scopes), _day(key.created_at), ends, rate
        )
    return table


def _until(key: ApiKey) -> str:
    return "never ends" if key.expires_at is None else f"until {_day(key.expires_at)}"


def _day(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s).astimezone():%Y-%m-%d %H:%M}"


def _with_store(use: Callable[[KeyStore], Awaitable[_Found]]) -> _Found:
    settings = find_settings(os.environ)

    async def run() -> _Found:
        client = connect(settings)
        try:
            return await use(KeyStore(client, settings))
        finally:
            await client.aclose()

    try:
        return asyncio.run(run())
    except RedisError as exc:
        where = without_password(settings.redis)
        raise HeadraceError(
            f"Redis at {where} cannot be asked: {str(exc).rstrip('.')}. "
            "Is it running, and is HEADRACE_REDIS right?"
        ) from exc
