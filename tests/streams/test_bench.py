"""The benchmark of the streams: what it reports holds together, and its parts do what they say."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from kafka.admin import KafkaAdminClient
from kafka_tools import read_topic
from redis.asyncio import Redis
from typer.testing import CliRunner

from headrace.cli import app
from headrace.events import parse_event
from headrace.producer import Outgoing, Producer
from headrace.settings import Settings
from headrace.topics import EVENT_TOPICS, Topics, ensure_topics
from streams.bench.events import BYTES, MadeUpEvents
from streams.bench.filling import filler
from streams.bench.freshness import freshness
from streams.bench.ground import Ground
from streams.bench.load import spread
from streams.bench.memory import slope, user_bytes
from streams.bench.throughput import throughput
from streams.bench.workers import bare_worker, shipped_workers

PARTITIONS = 4


@pytest.fixture
def ground(settings: Settings, tmp_path: Path) -> Ground:
    others = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")}
    worker = msgspec.structs.replace(settings.worker, fetch_wait_ms=20)
    return Ground(msgspec.structs.replace(settings, worker=worker), others, tmp_path)


def test_every_figure_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    ended = CliRunner().invoke(app, ["bench", "streams", "--quick", "--json", str(file)])
    assert ended.exit_code == 0, (ended.output, ended.exception)
    report = json.loads(file.read_text())
    names = {
        *(
            "agent_ratio",
            "agent_cpu_ratio",
            "scaling_efficiency",
            "two_workers_ratio",
            "bytes_per_user",
        ),
        *("freshness_ms_p50", "freshness_ms_p99", "rss_mb_per_million"),
        *("stop_s", "stop_uncommitted", "replay_events_per_s"),
    }
    assert report["spread"].keys() == names
    assert report["stop_uncommitted"] == 0
    for name in names - {"rss_mb_per_million", "stop_uncommitted"}:
        assert report[name] > 0, name
    assert report["benchmark"] == "streams"
    assert isinstance(report["rss_mb_per_million"], float)
    runs = report["runs"]
    for name in ("ours", "bare", "two_workers"):
        [run] = runs[name]
        assert 0 < run["events"] <= 22_000
        assert run["seconds"] > 0
        assert run["cpu_seconds"] > 0
        assert report["events_per_s"][name]["median"] == pytest.approx(
            run["events"] / run["seconds"], abs=0.001
        )
    [fresh] = runs["freshness"]
    assert fresh["probes"] == 20
    assert fresh["p50_ms"] <= fresh["p99_ms"] <= fresh["worst_ms"]
    [stop], [replay] = runs["stops"], runs["replays"]
    assert 5_000 <= stop["applied"] <= 20_000
    assert replay["events"] == 20_000
    assert report["targets"]["agent_ratio"] == "≥ 0.75"
    assert {"faust-streaming", "redis-server", "broker"} <= report["versions"].keys()
    assert report["machine"]["cpus"] >= 1


def test_events_are_of_200_bytes_and_all_of_them_are_events() -> None:
    log = MadeUpEvents(PARTITIONS, began_at=time.time())
    [piece] = log.pieces(5_000)
    ids = set()
    for (topic, partition), records in piece.items():
        for key, value in records:
            event = parse_event(value, EVENT_TOPICS[topic], received_at=time.time())
            assert len(value) == BYTES
            assert event.user_id.encode() == key
            assert log.partition_of(event.user_id) == partition
            ids.add(event.event_id)
    assert len(ids) == 5_000


def test_the_same_events_come_at_each_call_and_others_after_them() -> None:
    log = MadeUpEvents(PARTITIONS, began_at=1_704_060_026.0)
    assert list(log.pieces(100)) == list(log.pieces(100))
    [first], [second] = log.pieces(100), log.pieces(100, first=100)
    ids = [
        {msgspec.json.decode(value)["event_id"] for rows in piece.values() for _, value in rows}
        for piece in (first, second)
    ]
    assert [*map(len, ids)] == [100, 100]
    assert not ids[0] & ids[1]


async def test_a_users_events_stand_where_kafkas_own_clients_put_them(ground: Ground) -> None:
    ensure_topics(ground.settings)
    [piece] = ground.events.pieces(1_000)
    async with filler(ground.settings) as filling:
        assert await filling.fill([piece]) == 1_000
        producer = Producer(ground.settings)
        name = Topics(ground.settings).name("clicks")
        users = {key for rows in piece.values() for key, _ in rows}
        sent = await producer.send([Outgoing(name, user, b"{}") for user in sorted(users)[:50]])
        await producer.close()
    for user, position in zip(sorted(users)[:50], sent, strict=True):
        assert ground.events.partition_of(user.decode()) == position.partition
    found = Counter({topic: len(read_topic(ground.settings, topic)) for topic in EVENT_TOPICS})
    found["clicks"] -= 50
    assert found == Counter(
        {t: sum(len(r) for (of, _), r in piece.items() if of == t) for t in found}
    )


async def test_both_agents_count_each_event_once(ground: Ground) -> None:
    done: list[int] = []
    for number, start in enumerate((shipped_workers, bare_worker)):
        async with ground.fresh(f"agents-{number}") as its_own:
            run = await throughput(its_own, start, 20_000, done.append)
            assert 0 < run.events <= 20_000
        assert done[-1] == 22_000


async def test_a_ground_is_cleared_away_and_no_other(ground: Ground, redis: Redis) -> None:
    beside = ground.settings.key("beside")
    await redis.set(beside, 1)
    async with ground.fresh("gone") as its_own:
        prefix = its_own.settings.topics.prefix
        key = its_own.settings.key("something")
        await redis.set(key, 1)
    assert [await redis.exists(key), await redis.exists(beside)] == [0, 1]
    admin = KafkaAdminClient(bootstrap_servers=ground.settings.kafka)
    try:
        assert not [name for name in admin.list_topics() if name.startswith(prefix)]
    finally:
        admin.close()


async def test_a_users_bytes_are_those_of_50_interactions(ground: Ground) -> None:
    async with ground.fresh("users") as its_own:
        # So many that what the server takes and gives back besides is little beside them.
        found = await user_bytes(its_own, users=200)
    # 50 members of a sorted set or a hash, each with a score or a value, are more than a kilobyte.
    assert found.of_keys > 1_000
    assert found.of_server > 1_000
    assert found.keys >= 2


async def test_each_probe_is_seen_beside_the_load(ground: Ground) -> None:
    seen: list[int] = []
    async with ground.fresh("fresh") as its_own:
        found = await freshness(its_own, rate=500, probes=10, advance=seen.append)
    assert seen == list(range(1, 11))
    assert found.probes == 10
    assert 0 <= found.p50_ms <= found.p99_ms <= found.worst_ms
    assert found.applied_per_s > 0


def test_chunks_of_each_place_are_spread_over_the_whole() -> None:
    piece = {
        ("clicks", 0): [(b"u", b"%d" % n) for n in range(8)],
        ("ratings", 1): [(b"v", b"x")] * 4,
    }
    chunks = [(topic, len(records)) for topic, _, records in spread(piece, 2)]
    # Of clicks a chunk begins at 0, 1/4, 1/2 and 3/4, of ratings at 0 and 1/2.
    assert chunks == [
        *(("clicks", 2), ("ratings", 2), ("clicks", 2)),
        *(("clicks", 2), ("ratings", 2), ("clicks", 2)),
    ]


def test_the_slope_is_that_of_least_squares() -> None:
    # 100 MiB and 3 more each million events, but for ±1 in turn, which says nothing of the slope.
    samples = np.array(
        [(0.0, 101.0), (1e6, 102.0), (2e6, 105.0), (2e6, 107.0), (3e6, 110.0), (4e6, 111.0)]
    )
    found = slope(samples, events=4_000_000)
    expected = np.polyfit(samples[:, 0] / 1e6, samples[:, 1], 1)[0]
    assert found.mb_per_million == pytest.approx(expected)
    assert (found.first_mb, found.last_mb, found.samples) == (101.0, 111.0, 6)


def test_too_few_events_are_refused_by_the_command() -> None:
    ended = CliRunner().invoke(app, ["bench", "streams", "--events", "10"])
    assert ended.exit_code == 2
    assert "--events" in ended.output
