"""`headrace replay` on a real broker and a real Redis."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from archive_tools import archive, drop
from command_line import headrace
from events_log import fold
from kafka_tools import delete_topic, send_raw
from parts import Part, eventually
from redis.asyncio import Redis
from rich.console import Console
from state_tools import (
    Log,
    applied,
    check_against_log,
    fails,
    hash_in,
    read_log,
    succeeds,
)

from headrace.commands.archive import archive_once, chosen_topics
from headrace.erasures import Erasure, Erasures
from headrace.log import end_offsets
from headrace.positions import PositionStore
from headrace.replaying.course import Listener, ReplayOptions, replay
from headrace.replaying.run import Limits, run_replay
from headrace.replaying.shadow import ReplayRecord, Shadow
from headrace.replaying.targets import ShadowTarget
from headrace.replaying.window import Window
from headrace.sessions import SessionStore
from headrace.settings import SessionSettings, Settings
from headrace.state import state_hash
from headrace.topics import (
    EVENT_TOPICS,
    Place,
    TopicId,
    Topics,
    ensure_topics,
    event_topic_ids,
)

USERS = 12


def named(settings: Settings, namespace: str) -> Settings:
    return msgspec.structs.replace(settings, namespace=namespace)


async def apply_all(settings: Settings, redis: Redis, folder: Path) -> None:
    """Have a worker apply what the broker holds, and end it."""
    log = await asyncio.to_thread(read_log, settings)
    with Part("worker", settings, folder) as worker:

        async def done() -> bool:
            return await applied(settings, redis, log) == len(log)

        await eventually(done, "the log is applied")
        assert worker.end(signal.SIGTERM) == 0


async def test_two_shadows_of_a_log_are_equal_and_are_what_the_log_comes_to(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, USERS)
    await asyncio.to_thread(log.send, 5_000)
    await asyncio.to_thread(log.send_wrong, "clicks")
    shadows = [f"{settings.namespace}-{name}" for name in ("a", "b")]
    printed = [await succeeds(settings, "replay", "--into", shadow) for shadow in shadows]
    assert hash_in(printed[0]) == hash_in(printed[1])
    assert "invalid" in printed[0]
    events = await asyncio.to_thread(read_log, settings)
    await check_against_log(named(settings, shadows[0]), redis, events)
    for shadow in shadows:
        async for key in redis.scan_iter(f"{shadow}:*"):
            assert await redis.ttl(key) == -1
        assert hash_in(await succeeds(settings, "state-hash", shadow)) == hash_in(printed[0])
    # The digest sees a single count.
    await redis.hincrby(f"{shadows[0]}:user:{{user-0}}:marks", "applied", 1)
    assert hash_in(await succeeds(settings, "state-hash", shadows[0])) != hash_in(printed[0])


async def test_a_shadow_of_one_topic_is_what_a_worker_made_of_it(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, USERS)
    await asyncio.to_thread(log.send, 2_000, ("clicks",))
    await asyncio.to_thread(log.send_twice, "clicks")
    await asyncio.to_thread(log.send_wrong, "clicks")
    await apply_all(settings, redis, tmp_path)
    printed = await succeeds(settings, "replay", "--into", f"{settings.namespace}-a")
    assert hash_in(printed) == await state_hash(redis, settings)


@pytest.mark.brokers("embedded", "apache")
async def test_killed_and_run_again_it_comes_to_the_same(settings: Settings, redis: Redis) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    await asyncio.to_thread(Log(settings, USERS).send, 12_000)
    whole = hash_in(await succeeds(settings, "replay", "--into", f"{settings.namespace}-a"))
    other = f"{settings.namespace}-b"
    shadow = Shadow(redis, settings, other)
    command = [sys.executable, "-m", "headrace.cli", "replay", "--into", other, "--rate", "2000"]
    reached = -1
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 1)):
        process = await asyncio.to_thread(
            subprocess.Popen,
            command,
            env=settings.environ(),
            stderr=subprocess.PIPE,
            text=True,
            # A shell has what it runs in the background ignore Ctrl-C.
            preexec_fn=_hear_interrupts,
        )

        async def moved_on(reached: int = reached) -> bool:
            record = await shadow.read()
            return record is not None and _replayed(record.counts) > max(reached, 0)

        await eventually(moved_on, "the replay gets on")
        process.send_signal(number)
        _, errors = await asyncio.to_thread(process.communicate)
        assert process.returncode == status
        record = await shadow.read()
        assert record is not None
        assert not record.is_complete
        reached = _replayed(record.counts)
    assert errors == (f"headrace: Stopped. Run the same command again to go on into {other}.\n")
    assert "--topics was" in await fails(settings, "replay", "--into", other, "--topics", "clicks")
    narrower = msgspec.structs.replace(settings, sessions=SessionSettings(limit=7))
    assert "sessions.limit was 200 and is 7" in await fails(narrower, "replay", "--into", other)
    printed = await succeeds(settings, "replay", "--into", other)
    assert "goes on where it was left" in printed
    assert hash_in(printed) == whole
    assert "is complete" in await fails(settings, "replay", "--into", other)
    assert hash_in(await succeeds(settings, "replay", "--into", other, "--anew")) == whole


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _replayed(counts: dict[str, dict[str, int]]) -> int:
    return sum(sum(outcomes.values()) for outcomes in counts.values())


async def test_into_the_live_state_only_what_is_missing_is_applied(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, USERS)
    await asyncio.to_thread(log.send, 1_500)
    await apply_all(settings, redis, tmp_path)
    before = await state_hash(redis, settings)
    await asyncio.to_thread(log.send, 100)  # Beyond the positions: these are the workers'.

    printed = await succeeds(settings, "replay")
    assert [line.split() for line in printed.splitlines()][1] == ["topic", "known"]
    assert await state_hash(redis, settings) == before

    store = SessionStore(redis, settings)
    lost = await store.read("user-0")
    gone = (settings.key("user", "{user-0}", part) for part in ("items", "seen", "marks"))
    await redis.delete(*gone)
    printed = await succeeds(settings, "replay", "--dry-run")
    assert "Nothing was written" in printed
    assert (await store.read("user-0")).applied == 0
    await succeeds(settings, "replay")
    assert await store.read("user-0") == lost
    assert await state_hash(redis, settings) == before


async def test_who_is_erased_while_the_live_state_is_replayed_stays_away(
    settings: Settings, redis: Redis
) -> None:
    """Though Redis has forgotten the erasure by then, as it does in a day."""
    ids = {name: each.id for name, each in (await asyncio.to_thread(_made, settings)).items()}
    rows = [(b"x", msgspec.json.encode(_click(number, "bob"))) for number in range(3)]
    for partition in range(3):
        send_raw(settings, "clicks", rows, partition)
    send_raw(settings, "clicks", [(b"x", msgspec.json.encode(_click(9, "ann")))], 3)
    through = await asyncio.to_thread(end_offsets, settings)
    ends = enumerate((3, 3, 3, 1))
    await PositionStore(redis, settings).advance(
        {Place("clicks", ids["clicks"], number): end for number, end in ends}
    )
    begun = asyncio.Event()
    # A batch for each partition, and one is made ready in advance: the last after some seconds.
    options = ReplayOptions(topics="clicks", rate=2.0)
    listener = Listener(lambda *_: begun.set(), lambda _: None)
    replaying = asyncio.create_task(replay(settings, options, listener))
    await begun.wait()
    erasure = Erasure(user_id="ann", at=time.time(), topic_ids=ids, through=through)
    await asyncio.to_thread(
        send_raw, settings, "erasures", [(b"ann", msgspec.json.encode(erasure))]
    )
    record = await replaying
    assert record.counts == {"clicks": {"new": 9, "erased": 1}}
    assert (await SessionStore(redis, settings).read("ann")).applied == 0


def _made(settings: Settings) -> dict[str, TopicId]:
    """The topics, made, by name without the prefix."""
    topics = Topics(settings)
    return {topics.plain(name): each for name, each in ensure_topics(settings).items()}


def _click(number: int, user: str) -> dict[str, object]:
    now = time.time()
    return {"event_id": f"e{number}", "user_id": user, "item_id": f"i{number}", "timestamp": now}


async def test_into_the_live_state_what_has_expired_stays_away(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    await asyncio.to_thread(Log(settings, 1).send, 20, ("clicks",))
    events = await asyncio.to_thread(read_log, settings)
    place = events[0]
    positions = await asyncio.to_thread(
        headrace, "replay", "--into", "x" + settings.namespace, **settings.environ()
    )
    assert positions.returncode == 0, positions.stderr
    reached = await PositionStore(redis, named(settings, "x" + settings.namespace)).read()
    assert {at: to for at, to in reached.items() if to} == {
        at: 20 for at in reached if (at.topic, at.partition) == ("clicks", place.partition)
    }
    await PositionStore(redis, settings).advance(reached)
    brief = msgspec.structs.replace(settings, sessions=SessionSettings(ttl_s=60))
    # As if the log were two minutes old.
    late = "import time; now = time.time; time.time = lambda: now() + 120\n"
    code = late + "from headrace.cli import main; main()"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code, "replay"],
        env={**brief.environ(), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()][1:3] == [
        ["topic", "expired"],
        ["clicks", "20"],
    ]
    assert await applied(settings, redis, events) == 0


async def test_what_was_there_when_its_user_was_erased_is_left_out(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, 3)
    await asyncio.to_thread(log.send, 60)
    ids = await asyncio.to_thread(event_topic_ids, settings)
    before = await asyncio.to_thread(end_offsets, settings)
    await asyncio.to_thread(log.send, 60)
    window = Window(
        topics=tuple(sorted(ids)),
        topic_ids=ids,
        ends=await asyncio.to_thread(end_offsets, settings),
    )
    erasure = Erasure(user_id="user-1", at=0.0, topic_ids=ids, through=before)
    shadow = Shadow(redis, settings, f"{settings.namespace}-a")
    record = await run_replay(
        settings,
        ReplayRecord(window=window, begun_at=0.0, asked={}),
        ShadowTarget(redis, shadow),
        Limits(Erasures([erasure])),
    )
    kept, erased = [], 0
    for each in await asyncio.to_thread(read_log, settings):
        covered = each.offset < before[each.topic][str(each.partition)]
        if covered and each.event.user_id == "user-1":
            erased += 1
        else:
            kept.append(each)
    assert 0 < erased < 60
    assert sum(counts.get("erased", 0) for counts in record.counts.values()) == erased
    store = SessionStore(redis, shadow.settings)
    for user in ("user-0", "user-1", "user-2"):
        session = await store.read(user)
        assert session.applied == sum(each.event.user_id == user for each in kept)
        assert session.interactions() == fold(kept, user, settings.sessions.limit)


@pytest.mark.brokers("embedded", "apache")
async def test_only_what_lies_in_the_window_is_replayed(settings: Settings, redis: Redis) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, 3)
    await asyncio.to_thread(log.send, 50)
    moments = []
    for _ in range(2):
        await asyncio.sleep(0.05)
        moments.append(await asyncio.to_thread(_moment))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(log.send, 50)
    begin, end = moments
    shadow = f"{settings.namespace}-a"
    await succeeds(settings, "replay", "--into", shadow, "--from", begin, "--to", end)
    events = await asyncio.to_thread(read_log, settings)
    middle = [each for each in events if 50 < int(each.event.event_id.split("-")[1]) <= 100]
    assert len(middle) == 50
    await check_against_log(named(settings, shadow), redis, middle)
    positions = await PositionStore(redis, named(settings, shadow)).read()
    # Workers go on with the first event after the window.
    later = [each for each in events if int(each.event.event_id.split("-")[1]) > 100]
    assert all(
        each.offset >= positions[at]
        for each in later
        for at in positions
        if (at.topic, at.partition) == (each.topic, each.partition)
    )
    assert sum(positions.values()) == 100
    other = f"{settings.namespace}-b"
    await succeeds(settings, "replay", "--into", other, "--topics", "clicks", "--to", begin)
    first = [each for each in events if int(each.event.event_id.split("-")[1]) <= 50]
    await check_against_log(
        named(settings, other), redis, [each for each in first if each.topic == "clicks"]
    )


@pytest.mark.brokers("apache")
async def test_a_window_begins_in_the_archive_where_kafka_has_dropped_its_beginning(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, 3)
    await asyncio.to_thread(log.send, 100)
    begin = await asyncio.to_thread(_moment_between)
    await asyncio.to_thread(log.send, 100)
    await asyncio.to_thread(archive, settings)
    archived = await asyncio.to_thread(end_offsets, settings)
    later = await asyncio.to_thread(_moment_between)
    await asyncio.to_thread(log.send, 100)
    events = await asyncio.to_thread(read_log, settings)
    for topic, ends in archived.items():
        # A few of those that are archived are left.
        before = {int(number): max(0, end - 2) for number, end in ends.items()}
        await asyncio.to_thread(drop, settings, topic, before)
    for name, moment, first in (("a", begin, 100), ("b", later, 200)):
        shadow = f"{settings.namespace}-{name}"
        printed = await succeeds(settings, "replay", "--into", shadow, "--from", moment)
        assert "neither in Kafka nor archived" not in printed
        wanted = [each for each in events if int(each.event.event_id.split("-")[1]) > first]
        assert len(wanted) == 300 - first
        await check_against_log(named(settings, shadow), redis, wanted)

    # Without the archive they are lost, and that is said; not where none of them is wanted.
    bare = msgspec.structs.replace(settings, archive=settings.archive + "-none")
    into = ("--into", f"{settings.namespace}-c", "--dry-run")
    told = f"The first {_dropped(archived)} offsets of clicks/"
    for arguments in ((), ("--from", begin)):
        printed = await succeeds(bare, "replay", *into, *arguments)
        assert told in printed
        assert "are neither in Kafka nor archived" in " ".join(printed.split())
    assert "neither" not in await succeeds(bare, "replay", *into, "--from", later)


def _dropped(ends: dict[str, dict[str, int]]) -> int:
    return sum(max(0, end - 2) for of_topic in ends.values() for end in of_topic.values())


def _moment_between() -> str:
    """A time that is later than what was sent before, and earlier than what is sent after."""
    time.sleep(0.05)
    moment = _moment()
    time.sleep(0.05)
    return moment


def _moment() -> str:
    return datetime.now().astimezone().isoformat()


async def test_a_dry_run_counts_and_writes_nothing(settings: Settings, redis: Redis) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    await asyncio.to_thread(Log(settings, 3).send, 30, ("ratings",))
    send_raw(settings, "ratings", [(b"u", b"{}")])
    shadow = f"{settings.namespace}-a"
    printed = await succeeds(settings, "replay", "--into", shadow, "--dry-run")
    rows = [line.split() for line in printed.splitlines()]
    assert rows[1] == ["topic", "read", "invalid"]
    assert ["ratings", "30", "1"] in rows
    assert [key async for key in redis.scan_iter(f"{shadow}*")] == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--topics", "clicks,views"], "views is no topic of the model's events; there are clicks"),
        (["--from", "yesterday"], "--from yesterday is no time; write 2026-11-01T00:00"),
        (["--from", "2026-11-02", "--to", "2026-11-01"], "--to is not after --from"),
        (["--into", "a b"], "'a b' is no name"),
    ],
)
async def test_what_cannot_be_replayed_is_named(
    settings: Settings, arguments: list[str], error: str
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    assert error in await fails(settings, "replay", *arguments)


async def test_without_topics_it_is_said_what_makes_them(settings: Settings) -> None:
    error = await fails(settings, "replay", "--dry-run")
    assert "`headrace topics create` makes what is missing." in error


async def test_a_shadow_has_a_namespace_of_its_own(settings: Settings, redis: Redis) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    assert "is the live namespace" in await fails(settings, "replay", "--into", settings.namespace)
    other = f"{settings.namespace}-other"
    await redis.set(f"{other}:catalogue", "not a shadow's")
    for arguments in ([], ["--anew"]):
        error = await fails(settings, "replay", "--into", other, *arguments)
        assert f"holds '{other}:catalogue' and no record of a replay" in error
    assert await redis.get(f"{other}:catalogue") == b"not a shadow's"
    # Whose it is was not told to give way.
    assert [key async for key in redis.scan_iter(f"{other}:*")] == [f"{other}:catalogue".encode()]


async def test_what_is_archived_is_replayed_though_the_topics_were_made_anew(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, USERS)
    await asyncio.to_thread(log.send, 300)
    events = await asyncio.to_thread(read_log, settings)
    await asyncio.to_thread(
        archive_once, settings, chosen_topics(None, Topics(settings)), Console(quiet=True)
    )
    for topic in EVENT_TOPICS:
        await asyncio.to_thread(delete_topic, settings, topic)
    await asyncio.to_thread(ensure_topics, settings)
    await asyncio.to_thread(log.send, 200)
    events += await asyncio.to_thread(read_log, settings)
    shadows = [f"{settings.namespace}-{name}" for name in ("a", "b")]
    hashes = {hash_in(await succeeds(settings, "replay", "--into", shadow)) for shadow in shadows}
    assert len(hashes) == 1
    store = SessionStore(redis, named(settings, shadows[0]))
    sessions = [await store.read(f"user-{number}") for number in range(USERS)]
    assert sum(session.applied for session in sessions) == 500


async def test_into_the_live_state_nothing_comes_from_before_topics_were_made_anew(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    """Users' marks are of the topics as they are: what was applied before them looks new."""
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, USERS)
    await asyncio.to_thread(log.send, 300)
    await apply_all(settings, redis, tmp_path)
    await asyncio.to_thread(
        archive_once, settings, chosen_topics(None, Topics(settings)), Console(quiet=True)
    )
    for topic in EVENT_TOPICS:
        await asyncio.to_thread(delete_topic, settings, topic)
    await asyncio.to_thread(ensure_topics, settings)
    await asyncio.to_thread(log.send, 200)
    store = SessionStore(redis, settings)

    async def are_applied() -> bool:
        sessions = [await store.read(f"user-{number}") for number in range(USERS)]
        return sum(session.applied for session in sessions) == 500

    with Part("worker", settings, tmp_path) as worker:
        await eventually(are_applied, "the new topics' events are applied")
        assert worker.end(signal.SIGTERM) == 0
    before = await state_hash(redis, settings)
    said = await succeeds(settings, "replay")
    assert "known" in said
    assert "new" not in said
    assert await state_hash(redis, settings) == before


async def test_a_second_replay_into_a_shadow_takes_it_over_from_the_first(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, USERS)
    await asyncio.to_thread(log.send, 4_000)
    shadow, other = (f"{settings.namespace}-{name}" for name in ("a", "b"))
    first = asyncio.create_task(fails(settings, "replay", "--into", shadow, "--rate", "100"))
    store = Shadow(redis, settings, shadow)

    async def begun() -> bool:
        record = await store.read()
        return record is not None and bool(record.cursors)

    await eventually(begun, "the first is at work")
    second = await succeeds(settings, "replay", "--into", shadow, "--anew")
    assert "again" in await first
    assert hash_in(second) == hash_in(await succeeds(settings, "replay", "--into", other))
    await check_against_log(
        named(settings, shadow), redis, await asyncio.to_thread(read_log, settings)
    )


async def test_the_digest_of_nothing_is_none(settings: Settings) -> None:
    assert "no state in the namespace nope" in await fails(settings, "state-hash", "nope")
    assert "is no time" in await fails(settings, "replay", "--from", "0001-01-01")
