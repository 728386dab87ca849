"""A server of several processes: they share a port, one that dies is replaced, all end together."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest
from parts import Part, eventually
from prometheus_client import CollectorRegistry, Counter

from headrace.errors import HeadraceError
from headrace.local.ports import claim_port
from headrace.settings import ServingSettings, Settings
from headrace.topics import ensure_topics
from serving.worker_metrics import WorkerMetrics
from serving.workers import Workers


async def test_a_worker_that_is_killed_is_started_again_and_all_end_together(
    settings: Settings, tmp_path: Path
) -> None:
    ensure_topics(settings)
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    settings = msgspec.structs.replace(settings, serving=ServingSettings(port=port, workers=2))
    url = f"http://127.0.0.1:{port}"
    with Part("serve", settings, tmp_path) as server:

        async def workers() -> set[int]:
            """Who shows metrics: those that run and have begun to serve."""
            try:
                # A connection of its own each time: whichever worker takes it.
                async with httpx.AsyncClient() as client:
                    told = (await client.get(f"{url}/metrics")).text
            except httpx.TransportError:
                return set()
            return {int(pid) for pid in re.findall(r'in_hand\{worker="(\d+)"\}', told)}

        async def both_serve() -> bool:
            return len(await workers()) == 2

        await eventually(both_serve, "two workers serve")
        first = await workers()
        killed = min(first)
        psutil.Process(killed).kill()

        async def is_replaced() -> bool:
            now = await workers()
            return len(now) == 2 and killed not in now

        await eventually(is_replaced, "the killed worker is replaced")
        assert await workers() & first == first - {killed}
        pids = await workers()
        assert server.end(signal.SIGTERM) == 0
        assert not any(map(psutil.pid_exists, pids))
        assert "ended with -9" in server.log()


def test_workers_that_never_serve_end_the_server() -> None:
    started = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen((sys.executable, "-c", "raise SystemExit(3)")))
        return started[-1]

    with pytest.raises(HeadraceError, match="3 times"):
        Workers(2, start).run(threading.Event())
    assert all(process.returncode is not None for process in started)


def test_a_worker_that_does_not_stop_is_ended() -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    stopping, started = threading.Event(), []

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen((sys.executable, "-c", f"{stubborn}"), stdout=subprocess.DEVNULL)
        started.append(process)
        threading.Timer(1.0, stopping.set).start()
        return process

    Workers(1, start).run(stopping)
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_the_metrics_of_all_workers_that_run_are_told_apart(tmp_path: Path) -> None:
    def registry(count: int) -> CollectorRegistry:
        made = CollectorRegistry()
        Counter("asked", "Requests.", ("route",), registry=made).labels("/a").inc(count)
        return made

    other, gone = psutil.Process().ppid(), 2**22 + 1
    WorkerMetrics(tmp_path, other).write(registry(5))
    WorkerMetrics(tmp_path, gone).write(registry(7))
    told = WorkerMetrics(tmp_path, 1).expose(registry(3)).decode()
    assert told.count("# TYPE asked_total counter") == 1
    assert 'asked_total{route="/a",worker="1"} 3.0' in told
    assert f'asked_total{{route="/a",worker="{other}"}} 5.0' in told
    assert str(gone) not in told
    assert not (tmp_path / f"{gone}.prom").exists()
