"""The worker's own health and metrics over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from kafka_tools import send_raw
from parts import Part, eventually

from headrace.errors import HeadraceError
from headrace.heartbeats import Heartbeat, HeartbeatStore
from headrace.local.ports import claim_port
from headrace.settings import Settings, WorkerSettings
from headrace.store import connect
from headrace.topics import ensure_topics
from streams.listener import Listener


class Worker:
    """What the listener asks of a worker."""

    state = "running"


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
async def client(worker: Worker) -> AsyncIterator[httpx.AsyncClient]:
    listener = Listener(WorkerSettings(), lambda: worker.state, lambda: b"some_total 1.0\n")
    async with httpx.AsyncClient(base_url=await listener.start()) as client:
        yield client
    await listener.stop()


async def test_a_worker_that_runs_is_alive_and_ready(client: httpx.AsyncClient) -> None:
    assert client.base_url.host == "127.0.0.1"
    assert (await client.get("/livez")).status_code == 200
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "state": "running"})


@pytest.mark.parametrize(
    "state", ["waiting for partitions", "waiting: events cannot be applied: gone, for 7 s"]
)
async def test_one_that_waits_is_alive_and_says_what_for(
    client: httpx.AsyncClient, worker: Worker, state: str
) -> None:
    worker.state = state
    assert (await client.get("/livez")).status_code == 200
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"ready": False, "state": state})


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient) -> None:
    metrics = await client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert metrics.text == "some_total 1.0\n"


async def test_a_port_that_is_taken_is_named(client: httpx.AsyncClient) -> None:
    taken = Listener(WorkerSettings(port=client.base_url.port or 0), lambda: "", lambda: b"")
    with pytest.raises(HeadraceError, match=rf":{client.base_url.port}, .*HEADRACE_WORKER_PORT"):
        await taken.start()
    await taken.stop()


@pytest.mark.brokers("embedded", "apache")
async def test_a_worker_tells_where_it_listens_what_it_did_and_how_far_it_lags(
    settings: Settings, tmp_path: Path
) -> None:
    ensure_topics(settings)
    event = b'{"event_id": "e%d", "user_id": "ann", "item_id": "i", "timestamp": 1704060026}'
    send_raw(settings, "clicks", [(b"ann", event % n) for n in range(3)], partition=1)
    send_raw(settings, "clicks", [(b"ann", b"no event")], partition=2)
    async with connect(settings) as redis:
        with Part("worker", settings, tmp_path):
            beats: list[Heartbeat] = []

            async def told() -> bool:
                beats[:] = await HeartbeatStore(redis, settings).read("worker")
                return [beat.figures["applied"] for beat in beats] == [3]

            await eventually(told, "the worker tells that it has applied the events")
            async with httpx.AsyncClient(base_url=beats[0].address) as client:
                assert (await client.get("/readyz")).json()["state"] == "running"
                lines = set((await client.get("/metrics")).text.splitlines())
    for line in (
        'headrace_worker_events_total{outcome="new",topic="clicks"} 3.0',
        'headrace_worker_events_total{outcome="invalid",topic="clicks"} 1.0',
        'headrace_worker_lag_records{partition="1",topic="clicks"} 0.0',
        'headrace_worker_lag_records{partition="2",topic="clicks"} 0.0',
        "headrace_worker_dead_letters_total 1.0",
        "headrace_worker_starts_total 1.0",
    ):
        assert line in lines, line
    assert any(line.startswith("headrace_worker_apply_seconds_count") for line in lines)


async def test_a_worker_whose_port_is_taken_ends_and_names_it(
    settings: Settings, tmp_path: Path
) -> None:
    port = claim_port(0, host="127.0.0.1", use="a test's listener", option="")
    taker = Listener(WorkerSettings(port=port), lambda: "running", lambda: b"")
    await taker.start()
    wanted = msgspec.structs.replace(settings.worker, port=port)
    with Part("worker", msgspec.structs.replace(settings, worker=wanted), tmp_path) as worker:
        assert worker.wait() == 70
        assert f"127.0.0.1:{port}, for the worker's metrics, cannot be" in worker.log()
    await taker.stop()
