"""`headrace bench streams`: the whole measurement on one broker and one Redis of its own."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from headrace.commands.bars import Phases
from headrace.commands.benchmark import run_benchmark
from headrace.local.own_servers import own_servers, server_versions
from headrace.setting_variables import variable_of
from headrace.topics import delete_topics
from streams.bench.freshness import freshness
from streams.bench.ground import Ground
from streams.bench.memory import growth, user_bytes
from streams.bench.replaying import replay_all
from streams.bench.report import Runs, as_json, show
from streams.bench.stopping import stop
from streams.bench.throughput import Throughput, throughput
from streams.bench.workers import bare_worker, shipped_workers

_PARTITIONS = 8


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    events: int = 300_000
    """Of each backlog."""
    repeats: int = 3
    load: float = 0.5
    """Of the full rate, while freshness is looked at."""
    probes: int = 500
    """Of each run of freshness."""
    users: int = 2_000
    rss_events: int = 5_000_000


QUICK = Sizes(events=20_000, repeats=1, load=0.1, probes=20, users=20, rss_events=20_000)
"""Enough to see that it works, on a busy machine too; its figures say nothing."""


@dataclass(frozen=True)
class StreamsOptions:
    """What a user chooses."""

    sizes: Sizes = Sizes()
    json: Path | None = None
    kafka: str | None = None
    """A Kafka that already runs, `host:port`; then no broker is started."""


def run_streams(options: StreamsOptions, environ: Mapping[str, str]) -> None:
    """Measure, show the table, write the file. Raises `HeadraceError` when that cannot be."""
    run_benchmark(
        lambda shown: _measure(options, environ, shown),
        show,
        lambda runs: as_json(runs, options.sizes.repeats),
        options.json,
    )


async def _measure(
    options: StreamsOptions, environ: Mapping[str, str], shown: Phases
) -> tuple[Runs, dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        async with _ground(options, environ, Path(folder)) as ground:
            return await _runs(ground, options.sizes, shown), await _versions(options, ground)


@asynccontextmanager
async def _ground(
    options: StreamsOptions, environ: Mapping[str, str], folder: Path
) -> AsyncIterator[Ground]:
    """A broker and a Redis, with nothing in them, until the block ends."""
    chosen = {
        variable_of(("topics", "prefix")): f"bench-{secrets.token_hex(4)}-",
        variable_of(("topics", "partitions")): str(_PARTITIONS),
    }
    async with own_servers(folder, environ, chosen, kafka=options.kafka) as servers:
        yield Ground(servers.settings, servers.environ, servers.logs)
        await asyncio.to_thread(delete_topics, servers.settings)


async def _runs(ground: Ground, sizes: Sizes, shown: Phases) -> Runs:
    ours: list[Throughput] = []
    bare: list[Throughput] = []
    two: list[Throughput] = []
    for number in range(1, sizes.repeats + 1):
        for name, start, runs in (
            ("one worker", shipped_workers, ours),
            ("the bare agent", bare_worker, bare),
            ("two workers", partial(shipped_workers, number=2), two),
        ):
            with shown.phase(f"{name}, {number} of {sizes.repeats}", sizes.events) as advance:
                async with ground.fresh(f"{name.split()[-1]}-{number}") as its_own:
                    runs.append(await throughput(its_own, start, sizes.events, advance))
    rate = sizes.load * statistics.median(run.events_per_s for run in ours)
    fresh = []
    for number in range(1, sizes.repeats + 1):
        title = f"freshness at {rate:,.0f} events/s, {number} of {sizes.repeats}"
        with shown.phase(title, sizes.probes) as advance:
            async with ground.fresh(f"freshness-{number}") as its_own:
                fresh.append(await freshness(its_own, rate, sizes.probes, advance))
    stops, replays = [], []
    for number in range(1, sizes.repeats + 1):
        turn = f"{number} of {sizes.repeats}"
        with shown.phase(f"a clean stop, {turn}", sizes.events) as advance:
            async with ground.fresh(f"stop-{number}") as its_own:
                stops.append(await stop(its_own, sizes.events, advance))
        with shown.phase(f"a replay, {turn}", sizes.events) as advance:
            async with ground.fresh(f"replay-{number}") as its_own:
                replays.append(await replay_all(its_own, sizes.events, advance))
    with shown.phase(f"{sizes.users:,} users in Redis", 1):
        async with ground.fresh("users") as its_own:
            of_users = await user_bytes(its_own, sizes.users)
    with shown.phase("a worker's memory", sizes.rss_events) as advance:
        async with ground.fresh("memory") as its_own:
            grown = await growth(its_own, sizes.rss_events, advance)
    return Runs(ours, bare, two, fresh, stops, replays, of_users, grown)


async def _versions(options: StreamsOptions, ground: Ground) -> dict[str, str]:
    packages = {name: version(name) for name in ("faust-streaming", "aiokafka", "redis", "uvloop")}
    return {**packages, **await server_versions(ground.settings, options.kafka)}
