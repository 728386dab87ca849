"""Which keys in Redis are state: what the log of events comes to, and can be rebuilt from it.

All else in the namespace (catalogue, tasks, versions, heartbeats) stays where it is when the state
is exchanged for another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from headrace.settings import Settings
from headrace.store import load_script, text

Fields = dict[bytes, bytes]
FAMILIES = ("user", "aggregates", "transitions", "trending")
"""The first part of a key of the state, after the namespace."""
NOTHING = hashlib.sha256().hexdigest()
"""The digest of a state without a key."""
_EXPIRING = (b"user:", b"transitions:{")
"""What a live state's keys begin with when they expire; counts and marks stay."""
_SCAN = 2_000
_PAGE = 10_000
"""Entries of a stream that are read in one call."""
_KEYS_A_CALL = 100
"""Digested in one Lua call: bounds the time for which Redis does nothing else."""


def scan(redis: Redis, settings: Settings) -> AsyncIterator[list[bytes]]:
    """Yield all keys of the namespace, many at once; some may come twice.

    Raises `redis.exceptions.RedisError`.
    """
    return _scan(redis, settings.key("*"))


def scan_of_model(redis: Redis, settings: Settings) -> AsyncIterator[list[bytes]]:
    """Yield the keys of models with the same topics; of the shared topics, all of the namespace."""
    return _scan(redis, settings.state_key("*"))


async def _scan(redis: Redis, pattern: str) -> AsyncIterator[list[bytes]]:
    cursor = 0
    while True:
        cursor, keys = await redis.scan(cursor, match=pattern, count=_SCAN)
        yield [_bytes(key) for key in keys]
        if int(cursor) == 0:
            return


async def scan_state(redis: Redis, settings: Settings) -> AsyncIterator[list[bytes]]:
    """Yield the keys of the state, many at once; some may come twice."""
    families = tuple(settings.state_key(family, "").encode() for family in FAMILIES)
    async for keys in scan_of_model(redis, settings):
        yield [key for key in keys if key.startswith(families)]


def expires(key: bytes, settings: Settings) -> bool:
    """Return whether a key of a live state expires `sessions.ttl_s` after its last change."""
    return key.removeprefix(settings.state_key("").encode()).startswith(_EXPIRING)


async def delete_keys(redis: Redis, keys: Sequence[bytes]) -> None:
    """Delete keys, each by itself: they may lie in any slot."""
    async with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.unlink(key)
        if keys:
            await pipeline.execute()


async def state_hash(
    redis: Redis, settings: Settings, progress: Callable[[int], None] = lambda _: None
) -> str:
    """Return a digest of the state's content, whatever the namespace, and when it expires.

    It is of one moment only if nothing changes meanwhile. `progress` is told how many keys were
    read. Raises `redis.exceptions.RedisError`.
    """
    script = redis.register_script(load_script("digest_keys.lua"))
    prefix = len(settings.state_key(""))
    is_stream = re.compile(
        re.escape(settings.state_key("transitions", "").encode()) + rb"\{\d+\}:of:"
    )
    digests: set[bytes] = set()
    async for keys in scan_state(redis, settings):
        streams = [key for key in keys if is_stream.match(key)]
        others = sorted(set(keys) - set(streams))
        async with redis.pipeline(transaction=False) as pipeline:
            for first in range(0, len(others), _KEYS_A_CALL):
                call = others[first : first + _KEYS_A_CALL]
                await script(keys=call, args=[prefix], client=pipeline)
            # As a set: Redis gives keys in any order, and may give one twice.
            digests.update(
                bytes.fromhex(text(digest)) for some in await pipeline.execute() for digest in some
            )
        digests |= {await _stream_digest(redis, key, prefix) for key in streams}
        progress(len(digests))
    # Of a key that expired since it was listed.
    digests.discard(b"")
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


async def _stream_digest(redis: Redis, key: bytes, prefix: int) -> bytes:
    """Return a digest of a stream, which may be too long to be read in one call."""
    digest = hashlib.sha1(key[prefix:], usedforsecurity=False)
    after = b"-"
    while entries := await redis.xrange(key, after, count=_PAGE):
        rows = [(at, sorted(cast(Fields, fields).items())) for at, fields in entries]
        digest.update(msgspec.msgpack.encode(rows))
        after = b"(" + cast(bytes, entries[-1][0])
    return digest.digest()


def _bytes(key: bytes | str) -> bytes:
    return key if isinstance(key, bytes) else key.encode()
