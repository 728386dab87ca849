"""`headrace backup` and `headrace restore`, with workers that run."""

from __future__ import annotations

import asyncio
import gzip
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from command_line import headrace
from events_log import logged
from kafka_tools import send_raw
from parts import Part, eventually
from redis.asyncio import Redis
from state_tools import Log, all_done, fails, hash_in, load, succeeds, supervised

from headrace import backup
from headrace.aggregates import AggregateStore
from headrace.backup import back_up, restore
from headrace.backup_file import BackupWriter, Entry, Header, check, entries_of, writing
from headrace.erasure_log import read_erasures
from headrace.erasures import Erasure, Erasures
from headrace.errors import HeadraceError
from headrace.exchange import ExchangeStore
from headrace.positions import PositionStore
from headrace.replaying.queue import ReplayQueue, ReplayTask
from headrace.sessions import SessionStore
from headrace.settings import Settings, WorkerSettings
from headrace.state import scan
from headrace.topics import ERASURES, ensure_topics
from headrace.trending import TrendingStore

USERS = 40


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With small batches: a worker is always in the middle of something."""
    worker = WorkerSettings(group=settings.worker.group, batch_size=50)
    return msgspec.structs.replace(settings, worker=worker)


def _slowly(*_: int) -> None:
    """Let the worker get on, between the groups of keys."""
    time.sleep(0.4)


async def delete_all(redis: Redis, settings: Settings) -> None:
    async for key in redis.scan_iter(settings.key("*")):
        await redis.delete(key)


async def test_backed_up_under_load_and_restored_every_event_counts_once(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, USERS)
    await asyncio.to_thread(log.send, 2_000)
    await redis.set(settings.key("{catalogue}", "kept"), "as it was", ex=1_000)
    file = tmp_path / "backup.gz"
    with Part("worker", settings, tmp_path) as worker:

        async def begun() -> bool:
            return await TrendingStore(redis, settings).events_counted() > 500

        await eventually(begun, "the worker is at work")
        async with supervised(worker):
            with load(log):
                await asyncio.to_thread(asyncio.run, back_up(settings, file, _slowly))
                header, _ = check(file)

                async def went_on(taken: int = sum(header.positions.values())) -> bool:
                    reached = await PositionStore(redis, settings).read()
                    return sum(reached.values()) > taken

                await eventually(went_on, "the worker goes on after the backup")
                assert "is not empty" in await fails(settings, "restore", str(file))
                # Lost while the worker runs, which writes on.
                await delete_all(redis, settings)
                await succeeds(settings, "restore", str(file), "--replace")
            await all_done(settings, redis)
        assert "the state in Redis was exchanged for another" in worker.log()
    assert await redis.get(settings.key("{catalogue}", "kept")) == b"as it was"
    assert 0 < await redis.ttl(settings.key("{catalogue}", "kept")) <= 1_000
    assert await ExchangeStore(redis, settings).read() is None


async def test_a_user_who_is_new_while_keys_are_listed_is_there_whole_or_not_at_all(
    settings: Settings, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = SessionStore(redis, settings)
    await sessions.apply([logged(n, f"user-{n}", "a", 1.0) for n in range(20)])

    async def passed_some(redis: Redis, settings: Settings) -> AsyncIterator[list[bytes]]:
        """Of each user it meets one key alone: the others were passed when they came to be."""
        async for keys in scan(redis, settings):
            yield [key for key in keys if not key.endswith((b":items", b":seen"))]

    monkeypatch.setattr(backup, "scan", passed_some)
    file = tmp_path / "backup.gz"
    await back_up(settings, file)
    monkeypatch.undo()
    await delete_all(redis, settings)
    await restore(settings, file, replace=False, read_erasures=_nobody_erased)
    for n in range(20):
        assert (await sessions.read(f"user-{n}")).item_ids == ("a",)


async def _nobody_erased() -> Erasures:
    return Erasures()


async def test_what_is_restored_is_what_was_backed_up(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    await asyncio.to_thread(Log(settings, USERS).send, 1_000)
    shadow, other = f"{settings.namespace}-shadow", f"{settings.namespace}-other"
    digest = hash_in(await succeeds(settings, "replay", "--into", shadow))
    of_shadow = msgspec.structs.replace(settings, namespace=shadow)
    await redis.set(f"{shadow}:heartbeat:worker:x", "of a moment")
    await redis.set(f"{shadow}:{{tasks}}:lease:default", "of a moment")
    file = tmp_path / "backup.gz"
    await succeeds(of_shadow, "backup", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    await succeeds(of_shadow, "restore", str(file), "--into", other)
    assert hash_in(await succeeds(settings, "state-hash", other)) == digest
    before = {key async for key in redis.scan_iter(f"{shadow}:*")}
    after = {key async for key in redis.scan_iter(f"{other}:*")}
    gone = {b"heartbeat:worker:x", b"{tasks}:lease:default"}
    assert _names(before, shadow) - _names(after, other) == gone
    assert _names(after, other) <= _names(before, shadow)


def _names(keys: set[bytes], namespace: str) -> set[bytes]:
    return {key.removeprefix(f"{namespace}:".encode()) for key in keys}


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import headrace.backup
from headrace.erasures import Erasures
from headrace.settings_source import load_settings

def progress(done, total):
    os.kill(os.getpid(), signal.SIGKILL)

headrace.backup._RESTORED_AT_ONCE = 20
path = Path(sys.argv[1])
async def nobody():
    return Erasures()

asyncio.run(
    headrace.backup.restore(
        load_settings(os.environ), path, replace=True, read_erasures=nobody, progress=progress
    )
)
"""


async def test_who_was_erased_after_a_backup_stays_erased(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    sessions, aggregates = SessionStore(redis, settings), AggregateStore(redis, settings)
    events = [logged(0, "ann", "tea"), logged(1, "bob", "tea")]
    await sessions.apply(events)
    await aggregates.apply(events)
    file = tmp_path / "redis.backup"
    await back_up(settings, file)
    through = {"ratings": {"0": 2}}
    erasure = Erasure(
        user_id="ann", at=time.time(), topic_ids={"ratings": "first"}, through=through
    )
    send_raw(settings, ERASURES, [(b"ann", msgspec.json.encode(erasure))])
    await sessions.erase(erasure)

    async def read() -> Erasures:
        return await asyncio.to_thread(read_erasures, settings)

    await restore(settings, file, replace=True, read_erasures=read)
    assert (await sessions.read("ann")).item_ids == ()
    assert (await sessions.read("bob")).item_ids == ("tea",)
    assert await redis.keys(settings.key("transitions", "{0}", "recent", "ann")) == []


async def test_killed_in_the_middle_a_restore_is_run_again(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, USERS)
    await asyncio.to_thread(log.send, 1_000)
    file = tmp_path / "backup.gz"
    with Part("worker", settings, tmp_path) as worker:
        await all_done(settings, redis)
        await succeeds(settings, "backup", str(file))
        killed = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", KILLED, str(file)], env=settings.environ()
        )
        assert killed.returncode == -signal.SIGKILL
        await asyncio.to_thread(log.send, 200)
        async with supervised(worker):
            error = await fails(settings, "backup", str(tmp_path / "other.gz"))
            assert f"`headrace restore {file}` exchanges the state" in error
            assert not (tmp_path / "other.gz").exists()
            # Without --replace: what stands there is its own.
            await succeeds(settings, "restore", str(file))
            await all_done(settings, redis)


PROMOTION = ReplayTask(
    id="1", action="promote", model_id="default", into="shadow", created_at=0.0, updated_at=0.0
)


async def test_what_was_not_brought_to_its_end_is_replaced_by_a_backup(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await redis.set(settings.key("there"), "before")
    # What was served stands in its topic, and is not of the backup.
    served = settings.key("impressions", "list", "x")
    await redis.set(served, "a list")
    queue = ReplayQueue(redis, settings)
    await queue.add(PROMOTION)
    file = tmp_path / "backup.gz"
    await succeeds(settings, "backup", str(file))
    await ExchangeStore(redis, settings).store("headrace promote lost", "renaming")
    error = await fails(settings, "restore", str(file))
    assert "`headrace promote lost` was begun and has not ended" in error
    await succeeds(settings, "restore", str(file), "--replace")
    assert await redis.get(settings.key("there")) == b"before"
    assert not await redis.exists(served)
    # It is asked for again by whoever still wants it.
    assert await queue.newest() == []
    assert await ExchangeStore(redis, settings).read() is None


def write(path: Path, payload: bytes = b"no payload") -> bytes:
    """Write a small backup; return its bytes."""
    header = Header(namespace="n", redis_version="99.0.0", taken_at=0.0, positions={})
    with writing(path) as writer:
        writer.write(header)
        for number in range(100):
            writer.write(Entry(f"key-{number}".encode(), 0, payload))
    return path.read_bytes()


def test_a_backup_is_read_as_it_was_written(tmp_path: Path) -> None:
    # In a folder that is not there yet.
    path = tmp_path / "a" / "backup.gz"
    write(path)
    header, count = check(path)
    assert (header.redis_version, count) == ("99.0.0", 100)
    assert [entry.name for entry in entries_of(path)] == [
        f"key-{number}".encode() for number in range(100)
    ]


def test_a_file_that_was_cut_or_changed_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup.gz"
    whole = write(path)
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at])
        with pytest.raises(HeadraceError, match="is no backup, or is damaged"):
            check(path)
    for at in range(10, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(HeadraceError, match="is no backup, or is damaged"):
            check(path)


def test_a_file_whose_end_is_another_ones_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup.gz"
    write(path)
    frames = gzip.decompress(path.read_bytes())
    changed = frames.replace(b"key-7", b"key-8", 1)
    path.write_bytes(gzip.compress(changed))
    with pytest.raises(HeadraceError, match="its digest is another"):
        check(path)


def test_a_frame_that_claims_to_be_huge_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "backup.gz"
    path.write_bytes(gzip.compress(b"\xff\xff\xff\xff" + bytes(100)))
    with pytest.raises(HeadraceError, match="is no backup, or is damaged"):
        check(path)


def test_a_backup_of_a_later_format_says_so(tmp_path: Path) -> None:
    path = tmp_path / "backup.gz"
    header = Header(format=2, namespace="n", redis_version="7", taken_at=0.0, positions={})
    with gzip.open(path, "wb") as file:
        writer = BackupWriter(file)  # type: ignore[arg-type]
        writer.write(header)
        writer.end()
    with pytest.raises(HeadraceError, match="has format 2, this Headrace reads 1"):
        check(path)


async def test_what_this_redis_cannot_read_changes_nothing(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    path = tmp_path / "backup.gz"
    write(path)
    await redis.set(settings.key("there"), "before")
    error = await fails(settings, "restore", str(path), "--replace")
    assert "was made by Redis 99.0.0, and this one," in error
    assert [key async for key in redis.scan_iter(settings.key("*"))] == [
        settings.key("there").encode()
    ]


def test_without_redis_no_folder_is_left_behind(tmp_path: Path) -> None:
    ended = headrace("backup", str(tmp_path / "a" / "b"), HEADRACE_REDIS="redis://127.0.0.1:1")
    assert "Redis at 127.0.0.1:1" in ended.stderr
    assert list(tmp_path.iterdir()) == []


async def test_a_backup_that_is_not_there_is_named(settings: Settings, tmp_path: Path) -> None:
    missing = tmp_path / "missing.gz"
    assert f"{missing} is not there" in await fails(settings, "restore", str(missing))
    assert "is a folder" in await fails(settings, "backup", str(tmp_path))


async def test_a_namespace_with_nothing_in_it_is_not_backed_up(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "backup.gz"
    file.write_bytes(b"an older one")
    assert "There is nothing in the namespace" in await fails(settings, "backup", str(file))
    assert file.read_bytes() == b"an older one"
