"""The command line: what it offers, and how it answers wrong use."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import headrace
from redis.asyncio import Redis
from typer.testing import CliRunner

from headrace import __version__
from headrace.cli import app
from headrace.commands.addresses import find_settings
from headrace.heartbeats import Heartbeat, HeartbeatStore
from headrace.settings import Settings

COMMANDS = [
    *("demo", "up", "status", "env", "down"),
    *("worker", "trainer", "serve", "console", "health"),
    *("import", "send", "recommend", "openapi", "asyncapi"),
    *("train", "tasks"),
    *("archive", "replay", "promote", "state-hash", "backup", "restore"),
    *("settings", "models", "topics", "dead-letters", "keys"),
    "bench",
]


def closed_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_help_shows_every_command_with_one_line_on_a_narrow_terminal() -> None:
    lines = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output.splitlines()
    rows = [line.strip("│ ") for line in lines if line.startswith("│") and "--" not in line]
    assert [row.split()[0] for row in rows] == COMMANDS


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from headrace.cli import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'aiokafka', 'faust', 'httpx', 'kafka', 'numpy', 'pyarrow', 'redis',"
        " 'starlette', 'tensorflow'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["recomend", "42"], "Did you mean 'recommend'?"),
        (["up", "--prot", "1"], "--port"),
        (["recommend"], "Missing argument 'user_id'"),
        (["up", "--port", "70000"], "less than or equal to 65535"),
        (["console", "--url", "shop"], "'shop' is no address of a server: http://HOST:PORT is one"),
        (["health", "broker"], "is not one of 'worker', 'trainer', 'serve'"),
    ],
)
def test_wrong_use_is_told_the_right_one(arguments: list[str], cure: str) -> None:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert cure in result.output


def test_a_console_whose_port_is_taken_says_how_to_choose_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = headrace("console", "--port", str(port))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"headrace: Port {port}, for the console, is taken")
    assert "--port PORT" in ended.stderr


def test_a_wrong_setting_ends_in_one_line() -> None:
    ended = headrace("worker", HEADRACE_SESIONS_LIMIT="3")
    assert ended.returncode == 1
    said = "HEADRACE_SESIONS_LIMIT is not a setting; did you mean HEADRACE_SESSIONS_LIMIT?"
    assert ended.stderr == f"headrace: {said}\n"


def test_settings_are_listed_with_their_meaning_and_without_secrets() -> None:
    environ = {"HEADRACE_API_KEY": "hush", "HEADRACE_SESSIONS_LIMIT": "50", "COLUMNS": "200"}
    output = CliRunner().invoke(app, ["settings"], env=environ).output
    assert "hush" not in output
    limit = next(line for line in output.splitlines() if "HEADRACE_SESSIONS_LIMIT" in line)
    assert "50 (default: 200)" in limit
    assert "Interactions kept, the newest ones." in limit
    assert all(variable in output for variable in Settings().environ())


@pytest.mark.parametrize(
    "arguments", [["recommend", "42"], ["tasks"], ["train"], ["send", "-"]], ids=" ".join
)
def test_a_server_that_does_not_answer_is_named_with_the_cure(arguments: list[str]) -> None:
    url = closed_url()
    event = '{"type":"click","event_id":"1","user_id":"u","item_id":"i","timestamp":1}\n'
    ended = headrace(*arguments, stdin=event, HEADRACE_URL=url)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"headrace: The server at {url} does not answer")
    assert "`headrace up`" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_lines_that_are_no_events_are_named_and_never_sent() -> None:
    lines = '{"type":"click","event_id":"1","user_id":"u","item_id":"i"}\n\nnot JSON\n'
    # Nothing is left to send, so no server is asked.
    ended = headrace("send", "-", stdin=lines, HEADRACE_URL=closed_url())
    assert ended.returncode == 1
    assert "0 events accepted, 2 lines refused." in ended.stdout
    assert "line 1: timestamp: is required" in ended.stdout
    assert "line 3: not JSON" in ended.stdout


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = headrace("send", str(tmp_path / "none"), HEADRACE_URL=closed_url())
    assert ended.stderr == f"headrace: {tmp_path}/none cannot be read: No such file or directory.\n"


def test_addresses_of_variables_win_over_a_local_stack(tmp_path: Path) -> None:
    assert find_settings({"HEADRACE_URL": "http://elsewhere"}, tmp_path).api_key == ""
    assert find_settings({}, tmp_path) == Settings()


async def test_health_of_a_worker_is_its_own_heartbeat(redis: Redis, settings: Settings) -> None:
    elsewhere = Heartbeat(part="worker", name="another-host-7", pid=7, at=0.0, state="running")
    store = HeartbeatStore(redis, settings)
    await store.beat(elsewhere)
    ended = headrace("health", "worker", **settings.environ())
    assert ended.returncode == 1
    assert "gives no sign of life" in ended.stderr


async def test_health_of_a_worker_on_this_host(redis: Redis, settings: Settings) -> None:
    name = f"{socket.gethostname()}-7"
    store = HeartbeatStore(redis, settings)
    await store.beat(Heartbeat(part="worker", name=name, pid=7, at=0.0, state="running"))
    ended = headrace("health", "worker", **settings.environ())
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [["backup", "-"], ["state-hash"], ["promote", "b"], ["health", "worker"], ["keys", "list"]],
    ids=" ".join,
)
def test_a_redis_that_is_away_is_named_with_a_cure(arguments: list[str]) -> None:
    ended = headrace(*arguments, HEADRACE_REDIS="redis://127.0.0.1:1")
    assert ended.returncode == 1
    assert "127.0.0.1:1" in ended.stderr
    assert ". Is it running, and is HEADRACE_REDIS right?" in ended.stderr
    assert ".." not in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "--from", "yesterday"], "--from yesterday is no time"),
        (["replay", "--to", "tomorrow"], "--to tomorrow is no time"),
        (["replay", "--topics", "nothing"], "--topics nothing: nothing is no topic"),
        (["replay", "--into", ""], "--into: The namespace '' is no name"),
        (["dead-letters", "send", "2-17", "--set", "foo"], "--set 'foo' is not FIELD=…"),
        (["promote", ""], "The namespace '' is no name"),
        (["promote", "a b"], "The namespace 'a b' is no name"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_makes_no_sense_is_named_before_anything_is_connected_to(
    arguments: list[str], said: str
) -> None:
    ended = headrace(*arguments, HEADRACE_KAFKA="127.0.0.1:9", HEADRACE_REDIS="redis://127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"headrace: {said}")
    assert ended.stderr.count("\n") == 1


def test_health_of_a_server_that_is_not_there() -> None:
    port = closed_url().rpartition(":")[2]
    ended = headrace("health", "serve", HEADRACE_SERVING_PORT=port)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"headrace: The server at 127.0.0.1:{port} does not answer")
