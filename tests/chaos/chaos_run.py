"""Workers applying a log while they are killed, hung and left without a broker."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos_events import Load, Sender, draw
from chaos_oracle import fold_log, read_log, stored_state
from chaos_steps import forget_the_tail
from chaos_workers import Workers
from parts import OwnKafka, OwnRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from headrace.heartbeats import HeartbeatStore
from headrace.positions import PositionStore
from headrace.sessions import Session, SessionStore
from headrace.settings import Settings
from headrace.store import connect, read_together
from headrace.topics import ensure_topics
from headrace.trending import TrendingStore

PROGRESS = 0.05
"""Share of the events by which the workers get on between two faults."""
_WATCHED = 50
"""Users whose dictionaries are read again and again meanwhile."""
_STOPPED_WITHIN_S = 3.0
"""From SIGTERM to the end of a worker."""
_PATIENCE_S = 180.0
"""Only there against hanging: nothing is measured by it."""
_HUNG_BEYOND_S = 3.0
_BROKER_AWAY_S = 2.0


@dataclass(frozen=True)
class Plan:
    """What is sent, and what is done to the workers meanwhile."""

    load: Load
    kills: int
    """Each of any worker, with SIGKILL."""
    workers: int = 3
    hang: bool = True
    """Whether a worker is stopped for longer than its session lasts, and goes on then."""
    faults: Sequence[str] = ()
    """Those of `faulty_part` that the workers have."""


@dataclass
class Summary:
    """What happened, and what it came to."""

    seed: int
    records: int
    events: int
    malformed: int
    kills: int
    redelivered: int
    """Events that the workers which lived to tell it had been given before."""
    ends: dict[int, int]
    """How often a worker ended by itself, by exit status."""
    reads: int
    """Dictionaries read meanwhile."""
    seconds: float
    stops: list[tuple[int, float]]
    """Of each worker the exit status when it was asked to end, and the seconds it took."""
    lost: int
    twice: int
    went_back: list[str]
    """What a reader saw go backwards."""
    differences: list[str]
    """Where the state differs from what the log comes to."""

    def __str__(self) -> str:
        stops = ", ".join(f"{seconds:.1f} s" for _, seconds in self.stops)
        return (
            f"chaos: seed {self.seed}: {self.records:,} records ({self.malformed} malformed), "
            f"{self.kills} kills, {self.redelivered:,} redeliveries seen, "
            f"ended by themselves {self.ends or 'never'}, {self.reads:,} dictionaries read; "
            f"{self.seconds:.0f} s; clean stops in {stops}; "
            f"lost {self.lost}, applied twice {self.twice}"
        )


async def run_chaos(
    plan: Plan,
    settings: Settings,
    folder: Path,
    *,
    seed: int,
    broker: OwnKafka | None = None,
    server: OwnRedis | None = None,
) -> Summary:
    """Run the plan; return what it came to.

    A broker that is given is killed and started again at the end; a Redis, too, having forgotten.
    """
    print(f"chaos: seed {seed}", flush=True)
    async with connect(settings) as redis:
        return await _run(plan, settings, redis, folder, seed, broker, server)


async def _run(
    plan: Plan,
    settings: Settings,
    redis: Redis,
    folder: Path,
    seed: int,
    broker: OwnKafka | None,
    server: OwnRedis | None,
) -> Summary:
    rng = random.Random(seed)
    records = list(draw(plan.load, rng))
    await asyncio.to_thread(ensure_topics, settings)
    begin = time.monotonic()
    sender = Sender(settings, records)
    sending = asyncio.create_task(asyncio.to_thread(sender.send))
    course = _Course(plan, settings, redis, sender)
    watch = Watch(redis, settings, [f"user-{n}" for n in range(_WATCHED)])
    try:
        async with Workers(plan.workers, settings, folder, faults=plan.faults) as workers:
            watching = asyncio.create_task(watch.run())
            for _ in range(plan.kills):
                await course.get_on()
                workers.kill(rng)
            if plan.hang:
                await course.get_on()
                hung = workers.pick(rng)
                hung.signal(signal.SIGSTOP)
                await asyncio.sleep(settings.worker.session_timeout_s + _HUNG_BEYOND_S)
                hung.signal(signal.SIGCONT)
            if broker is not None:
                await course.get_on()
                broker.kill()
                await asyncio.sleep(_BROKER_AWAY_S)
                await asyncio.to_thread(broker.start)
            if server is not None:
                await course.get_on()
                server.kill()
                forget_the_tail(server.folder)
                watch.begin_anew()
                await asyncio.to_thread(server.start)
            await course.finish()
            acknowledged = await sending
            log = await asyncio.to_thread(read_log, settings)
            await course.reach(log.ends)
            watch.stop()
            await watching
            stops = await workers.stop()
            ends = dict(workers.ends)
    finally:
        sender.give_up()
    held = {(each.topic, each.partition, each.offset) for each in log.events} | set(log.malformed)
    unheld = [at for at in acknowledged if at not in held]
    assert not unheld, f"{len(unheld)} acknowledged records are not in the log: {unheld[:3]}"
    wanted = fold_log(log, settings)
    found = await stored_state(redis, settings, wanted)
    return Summary(
        seed=seed,
        records=len(held),
        events=len(log.events),
        malformed=len(log.malformed),
        kills=plan.kills,
        redelivered=watch.redelivered,
        ends=ends,
        reads=watch.reads,
        seconds=time.monotonic() - begin,
        stops=stops,
        lost=found.lost(wanted),
        twice=found.twice(wanted),
        went_back=watch.went_back,
        differences=found.differences(wanted),
    )


class _Course:
    """How far the workers are, and how much they are given to do."""

    def __init__(self, plan: Plan, settings: Settings, redis: Redis, sender: Sender) -> None:
        self._trending = TrendingStore(redis, settings)
        self._positions = PositionStore(redis, settings)
        self._sender = sender
        self._step = int(PROGRESS * plan.load.events)
        self._left = plan.load.events
        # One stage for each fault and one after the last.
        self._stage = plan.load.events // (plan.kills + 4)
        self._reached = 0

    async def get_on(self) -> None:
        """Have more records sent; return when the workers have got on, in the middle of them."""
        self._allow(self._stage)
        await self._until(self._has_got_on, "the workers get on")
        self._reached = await self._trending.events_counted()

    async def finish(self) -> None:
        """Have the rest sent."""
        self._allow(self._left)

    async def reach(self, ends: object) -> None:
        """Wait until every partition is done with up to its end."""

        async def holds() -> bool:
            return await self._positions.read() == ends

        await self._until(holds, "all that was sent is done with")

    def _allow(self, count: int) -> None:
        self._left -= count
        self._sender.allow(count)

    async def _has_got_on(self) -> bool:
        return await self._trending.events_counted() >= self._reached + self._step

    async def _holds(self, holds: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await holds()
        except RedisError:  # It was killed, and is back by the next look.
            return False

    async def _until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not await self._holds(holds):
            assert time.monotonic() < deadline, f"not in {_PATIENCE_S:.0f} s: {what}"
            await asyncio.sleep(0.02)


@dataclass
class Watch:
    """Reads dictionaries again and again; none may go backwards."""

    redis: Redis
    settings: Settings
    users: Sequence[str]
    reads: int = 0
    went_back: list[str] = field(default_factory=list)
    _stopped: bool = False
    _last: dict[str, Session] = field(default_factory=dict)
    _known: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Read until told to stop."""
        store, heartbeats = (
            SessionStore(self.redis, self.settings),
            HeartbeatStore(self.redis, self.settings),
        )
        limit = self.settings.sessions.limit
        while not self._stopped:
            try:
                found = list(await read_together(self.redis, *map(store.reading, self.users)))
                beats = await heartbeats.read("worker")
            except RedisError:  # It was killed, and is back by the next turn.
                found, beats = [], []
            for user, session in zip(self.users, found, strict=False):
                last = self._last.get(user, session)
                self.went_back += [f"{user}: {line}" for line in backwards(last, session, limit)]
                self._last[user] = session
                self.reads += 1
            for beat in beats:
                self._known[beat.name] = max(
                    self._known[beat.name], int(beat.figures["duplicates"])
                )
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Stop reading."""
        self._stopped = True

    def begin_anew(self) -> None:
        """Forget what was read: Redis has forgotten, too."""
        self._last = {}

    @property
    def redelivered(self) -> int:
        """Events that workers were given which had been applied before."""
        return sum(self._known.values())


def backwards(last: Session, now: Session, limit: int) -> list[str]:
    """Return in words what of a user's session went backwards from one reading to the next.

    A full one, of `limit` items, drops its oldest: none but what is older than all that it holds.
    """
    lines = []
    if now.applied < last.applied:
        lines.append(f"{now.applied} events applied after {last.applied}")
    lines += [
        f"{mark} at {now.marks.get(mark)} after {offset}"
        for mark, offset in last.marks.items()
        if now.marks.get(mark, -1) < offset
    ]
    if (now.updated_at or 0.0) < (last.updated_at or 0.0):
        lines.append(f"newest {now.updated_at} after {last.updated_at}")
    known = dict(zip(now.item_ids, now.timestamps, strict=True))
    oldest = now.timestamps[0] if len(known) == limit else -math.inf
    for item, timestamp in zip(last.item_ids, last.timestamps, strict=True):
        if item not in known and timestamp > oldest:
            lines.append(f"{item} of {timestamp} is gone")
        elif known.get(item, timestamp) < timestamp:
            lines.append(f"{item} of {known[item]} after {timestamp}")
    return lines


def check(summary: Summary) -> None:
    """Print what happened; fail when anything that is promised does not hold."""
    print(summary)
    assert (summary.lost, summary.twice) == (0, 0), summary
    assert summary.differences == [], "\n".join(summary.differences)
    assert summary.went_back == [], summary.went_back[:10]
    assert [status for status, _ in summary.stops] == [0] * len(summary.stops)
    # The one time that a test measures, for it is promised: a worker that has committed all, and
    # has not taken leave of its broker 2.5 s after it began to stop, ends without.
    assert max(seconds for _, seconds in summary.stops) < _STOPPED_WITHIN_S, summary
