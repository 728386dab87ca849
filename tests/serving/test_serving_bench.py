"""The benchmark of serving: what it reports holds together, and its parts do what they say."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli import app
from serving.bench.load import Load, run

FIGURES = {
    *("requests_per_s", "echo_ratio", "p50_ms", "p99_ms", "model_ms", "model_ms_1m"),
    *("rss_mb_1m", "ready_s_1m", "swap_p99_ratio", "rollback_s", "rollback_s_1m"),
    *("overload_p99_ratio", "overload_rejected", "overload_refused_ms"),
}


def test_every_figure_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    ended = CliRunner().invoke(app, ["bench", "serving", "--quick", "--json", str(file)])
    assert ended.exit_code == 0, (ended.output, ended.exception)
    report = json.loads(file.read_text())
    assert report["spread"].keys() == FIGURES
    for name in FIGURES - {"overload_rejected", "overload_refused_ms"}:
        assert report[name] > 0, name
    assert 0 <= report["overload_rejected"] <= 1
    assert report["targets"]["echo_ratio"] == "≥ 0.45"
    runs = report["runs"]
    [full], [steady], [swap], [overload] = (
        runs[name] for name in ("full", "steady", "swap", "overload")
    )
    assert report["echo_ratio"] == pytest.approx(
        full["requests_per_s"] / full["plain_per_s"], abs=0.001
    )
    assert steady["rate"] == pytest.approx(0.6 * full["requests_per_s"])
    assert overload["rate"] == pytest.approx(10 * full["requests_per_s"])
    assert swap["latency"]["count"] > 0
    assert overload["admitted"]["count"] > 0
    assert {"uvicorn", "scann", "redis-server"} <= report["versions"].keys()


@contextmanager
def slow_server(delays: list[float]) -> Iterator[int]:
    """A server of one connection at a time, that answers the nth request after the nth delay."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for delay in delays:
                    if not connection.recv(65_536):
                        return
                    time.sleep(delay)
                    status = b"200 OK" if delay < 0.1 else b"503 Service Unavailable"
                    connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def test_a_server_that_stalls_makes_nothing_look_faster() -> None:
    # 50 requests a second, of which the first keeps all others waiting for half a second.
    with slow_server([0.5] + [0.0] * 200) as port:
        seen = run(Load(port=port, path="/", bodies=["{}"], connections=1, seconds=1.0, rate=50.0))
    assert seen.of("503").count == 1
    quick = seen.of("200")
    assert quick.count == seen.asked - 1
    # Half of them or so were meant for moments within the stall, and count their waiting.
    assert quick.p99_ms > 300 > quick.written_p99_ms
    assert seen.last_answer == "{}"


async def test_the_client_is_a_process_of_its_own_that_tells_what_it_saw() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            assert await reader.readexactly(9) == b'{"k": 10}'
            # In two pieces, cut where it hurts.
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{")
            await writer.drain()
            await asyncio.sleep(0.001)
            writer.write(b'"":')
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    load = Load(port=port, path="/", bodies=['{"k": 10}'], connections=4, seconds=0.3)
    seen = await asyncio.to_thread(run, load)
    server.close()
    assert seen.of("200").count == seen.asked > 4
    assert seen.last_answer == '{"":'
    assert seen.per_s > 0
