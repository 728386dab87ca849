"""Backing up and restoring what stands in Redis, while workers run.

A backup is not of one moment. Positions are read first, and keys that are changed together (those
of one user, of one partition number) are read together. So every event at or after the positions
that is in the backup is there with its mark, and workers that begin at the positions count it once.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from headrace.aggregates import AggregateKeys
from headrace.backup_file import BackupWriter, Entry, Header, check, entries_of, writing
from headrace.errors import HeadraceError
from headrace.exchange import (
    REDIS_TIMEOUT_S,
    ExchangeStore,
    ReadErasures,
    check_no_other,
    erase_since,
    exchange_key,
    exchanging,
)
from headrace.identity import generation_key
from headrace.positions import PositionStore
from headrace.sessions import session_keys
from headrace.settings import Settings
from headrace.state import delete_keys, scan
from headrace.store import connect, read_together, text
from headrace.topics import Place

Progress = Callable[[int, int], None]
"""Is told how many keys of how many are done."""

_KEYS_AT_ONCE = 300
"""Read in one transaction, and more only when they belong together."""
_RESTORED_AT_ONCE = 1_000
_RESTORED_BYTES = 4 * 2**20
_TAG = re.compile(rb"\{([^}]+)\}")


async def back_up(
    settings: Settings, path: Path, progress: Progress = lambda *_: None
) -> tuple[Header, int]:
    """Write what the namespace holds to a file; return its header and how many keys it has.

    Raises `HeadraceError` when the state is being exchanged, or the file cannot be written, and
    `redis.exceptions.RedisError`.
    """
    redis = connect(settings, timeout_s=REDIS_TIMEOUT_S)
    try:
        generations = await _generations(redis, settings)
        header = Header(
            namespace=settings.namespace,
            redis_version=text((await redis.info("server"))["redis_version"]),
            taken_at=time.time(),
            positions={
                str(at): to
                for state in settings.states
                for at, to in (await PositionStore(redis, state).read()).items()
            },
        )
        with writing(path) as writer:
            writer.write(header)
            await _write(redis, settings, _positions_keys(settings), writer)
            groups = await _groups(redis, settings)
            total = sum(map(len, groups.values()))
            for keys in _together(groups):
                await _write(redis, settings, keys, writer)
                progress(writer.entries, total)
            if await _generations(redis, settings) != generations:
                raise HeadraceError("The state was exchanged meanwhile; run the backup again.")
            if not writer.entries:
                raise HeadraceError(
                    f"There is nothing in the namespace {settings.namespace} to back up; is "
                    "HEADRACE_REDIS right, and HEADRACE_NAMESPACE? No file was written."
                )
        return header, writer.entries
    finally:
        await redis.aclose()


async def restore(
    settings: Settings,
    path: Path,
    *,
    replace: bool,
    read_erasures: ReadErasures,
    progress: Progress = lambda *_: None,
) -> tuple[Header, int]:
    """Put into the namespace what the file holds; return its header and how many keys it has.

    Workers are kept out meanwhile, and go on from the backup's positions. Killed, it is to be run
    again. With `replace` what stands in the namespace is deleted first, even an exchange that was
    not brought to its end. Users who were erased after the backup are erased in it. Raises
    `HeadraceError` when the file cannot be used, the namespace is not empty, another exchange has
    not ended, or Kafka cannot tell who was erased, and `redis.exceptions.RedisError`.
    """
    header, total = check(path)
    await read_erasures()  # Nothing is written when they cannot be told.
    command = f"headrace restore {path}"
    redis = connect(settings, timeout_s=REDIS_TIMEOUT_S)
    try:
        if not replace:
            exchanges = [ExchangeStore(redis, state) for state in settings.states]
            for exchange in exchanges:
                await check_no_other(exchange, command)
            if not any([await exchange.read() for exchange in exchanges]):
                await _check_empty(redis, settings)
        await _check_version(redis, settings, path, header)
    finally:
        await redis.aclose()
    async with _exchanging_all(settings, command, takes_over=replace) as redis:
        async for keys in scan(redis, settings):
            await delete_keys(redis, _lasting(settings, keys))
        done = 0
        for entries in _portions(path):
            await _restore(redis, settings, entries)
            done += len(entries)
            progress(done, total)
        # Again: somebody may have been erased meanwhile, in the state that was live until now.
        erasures = await read_erasures()
        for state in settings.states:
            await erase_since(redis, state, erasures, header.taken_at)
    return header, total


@asynccontextmanager
async def _exchanging_all(
    settings: Settings, command: str, *, takes_over: bool
) -> AsyncIterator[Redis]:
    """Keep the writers of all models out of the namespace; see `headrace.exchange.exchanging`."""
    async with AsyncExitStack() as stack:
        writers = [
            await stack.enter_async_context(
                exchanging(state, command, "restoring", takes_over=takes_over)
            )
            for state in settings.states
        ]
        yield writers[0]


async def _generations(redis: Redis, settings: Settings) -> list[bytes | str | None]:
    """Return each state's generation. Raises `HeadraceError` while one is being exchanged."""
    generations = []
    for state in settings.states:
        under_way = await ExchangeStore(redis, state).read()
        if under_way is not None:
            raise HeadraceError(
                f"`{under_way.command}` exchanges the state; back it up after that."
            )
        generations.append(await redis.get(generation_key(state)))
    return generations


def _positions_keys(settings: Settings) -> list[bytes]:
    return [state.state_key("positions").encode() for state in settings.states]


async def _groups(redis: Redis, settings: Settings) -> Mapping[bytes, Sequence[bytes]]:
    """Return the keys by what stands in their braces: those are changed together.

    The keys without braces come last: the list of streams names all that were read.
    """
    groups: dict[bytes, set[bytes]] = {}
    # What was served is many keys for a day, and stands in its topic. A replay or promotion that
    # waits was asked for of the state as it was, and would begin once that is restored.
    left_out = tuple(settings.key(name, "").encode() for name in ("impressions", "{replays}"))
    async for keys in scan(redis, settings):
        for key in _lasting(settings, keys):
            if key.startswith(left_out):
                continue
            tag = _TAG.search(key)
            group = groups.setdefault(tag[1] if tag else b"", set())
            group.add(key)
            # Of a user who is new while keys are listed, some were passed already.
            group.update(session_keys(key))
    for state in settings.states:
        for partition, of_partition in (await _keys_of_places(redis, state)).items():
            groups.setdefault(b"%d" % partition, set()).update(of_partition)
    alone = groups.pop(b"", set()) - {*_positions_keys(settings)}
    return {**{tag: sorted(keys) for tag, keys in groups.items()}, b"": sorted(alone)}


async def _keys_of_places(redis: Redis, state: Settings) -> dict[int, set[bytes]]:
    """Return by partition number the streams and counts that its marks may tell of when read.

    Those of topics that get their first events there while keys are listed, too.
    """
    keys = AggregateKeys(state)
    places = [Place.parse(text(name)) for name in await redis.smembers(keys.streams)]
    [applied] = await read_together(redis, PositionStore(redis, state).reading())
    topics = {*applied.topic_ids.items(), *((each.topic, each.topic_id) for each in places)}
    found: dict[int, set[bytes]] = {}
    for number in {*range(state.topics.partitions), *(place.partition for place in places)}:
        streams = {keys.stream(Place(topic, topic_id, number)) for topic, topic_id in topics}
        counts = {keys.trending(topic, number) for topic, _ in topics}
        found[number] = {key.encode() for key in streams | counts}
    return found


def _together(groups: Mapping[bytes, Sequence[bytes]]) -> Iterator[Sequence[bytes]]:
    """Yield keys to be read in one transaction: whole groups, several while they are few."""
    keys: list[bytes] = []
    for group in groups.values():
        if keys and len(keys) + len(group) > _KEYS_AT_ONCE:
            yield keys
            keys = []
        keys = [*keys, *group]
    yield keys


async def _write(
    redis: Redis, settings: Settings, keys: Sequence[bytes], writer: BackupWriter
) -> None:
    """Write keys as they are at one moment."""
    async with redis.pipeline(transaction=True) as pipeline:
        for key in keys:
            pipeline.dump(key)
            pipeline.pttl(key)
        answers = await pipeline.execute() if keys else []
    prefix = len(settings.key(""))
    for key, payload, ttl_ms in zip(keys, answers[::2], answers[1::2], strict=True):
        if payload is not None:
            # To Redis 0 means for ever; a key with less than a millisecond left is not.
            left_ms = 0 if ttl_ms < 0 else max(ttl_ms, 1)
            writer.write(Entry(key[prefix:], left_ms, payload))


def _lasting(settings: Settings, keys: Sequence[bytes]) -> list[bytes]:
    """Return the keys without what is of a moment: signs of life, leases, exchanges."""
    moments = tuple(
        key.encode()
        for key in (
            settings.key("heartbeat", ""),
            settings.key("{tasks}", "lease", ""),
            *map(generation_key, settings.states),
            *map(exchange_key, settings.states),
        )
    )
    return [key for key in keys if not key.startswith(moments)]


async def _check_empty(redis: Redis, settings: Settings) -> None:
    async for keys in scan(redis, settings):
        for key in _lasting(settings, keys):
            raise HeadraceError(
                f"The namespace {settings.namespace} is not empty: there is {key.decode()!r}. "
                "Add --replace to delete what it holds, or --into another namespace."
            )


async def _check_version(redis: Redis, settings: Settings, path: Path, header: Header) -> None:
    """Raise `HeadraceError` when this Redis cannot read what another one serialised."""
    entry = next(entries_of(path), None)
    if entry is None:
        return
    trial = settings.key("restore-trial")
    try:
        await redis.restore(trial, 1_000, entry.payload, replace=True)
    except ResponseError as exc:
        version = text((await redis.info("server"))["redis_version"])
        raise HeadraceError(
            f"{path} was made by Redis {header.redis_version}, and this one, {version}, cannot "
            f"read it ({exc}); restore it into one that is not older. Nothing was changed."
        ) from exc
    await redis.delete(trial)


def _portions(path: Path) -> Iterator[list[Entry]]:
    """Yield the keys of the file, some at a time."""
    entries: list[Entry] = []
    size = 0
    for entry in entries_of(path):
        entries.append(entry)
        size += len(entry.payload)
        if len(entries) == _RESTORED_AT_ONCE or size >= _RESTORED_BYTES:
            yield entries
            entries, size = [], 0
    yield entries


async def _restore(redis: Redis, settings: Settings, entries: Sequence[Entry]) -> None:
    prefix = settings.key("").encode()
    async with redis.pipeline(transaction=False) as pipeline:
        for entry in entries:
            pipeline.restore(prefix + entry.name, entry.ttl_ms, entry.payload, replace=True)
        if entries:
            await pipeline.execute()
