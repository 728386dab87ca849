"""The stack on Apache Kafka: its topics outlive it, and what is missing for it is named."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kafka_tools import read_topic, send_raw
from processes import wait_for
from stand_in_stack import stand_in_parts

from headrace.errors import StackError
from headrace.local.apache import find_apache
from headrace.local.detached import stop_stack
from headrace.local.folder import DataFolder
from headrace.local.stack import LocalStack, StackOptions, choose_settings
from headrace.store import connect
from headrace.topics import ensure_topics

ANY = {"port": 0, "kafka_port": 0, "redis_port": 0}


def pids(stack: LocalStack) -> dict[str, int | None]:
    return {status.name: status.pid for status in stack.statuses}


async def test_topics_and_sessions_outlive_the_stack_and_the_death_of_its_broker(
    tmp_path: Path,
) -> None:
    # Kafka would take the folder for two, were it told this path.
    options = StackOptions(data=tmp_path / "Spaß, data", broker="apache", **ANY)
    async with LocalStack(options, os.environ, parts=stand_in_parts) as stack:
        settings = stack.settings
        topics = await asyncio.to_thread(ensure_topics, settings)
        await asyncio.to_thread(send_raw, settings, "clicks", [(b"ann", b"first")])
        async with connect(settings) as redis:
            await redis.set("kept", "1")

        before = pids(stack)
        os.kill(before["broker"] or 0, signal.SIGKILL)

        def is_back() -> bool:
            return any(
                part.name == "broker" and part.state == "ready" and part.restarts
                for part in stack.statuses
            )

        await asyncio.to_thread(wait_for, is_back, "the broker started again")
        assert [name for name, pid in pids(stack).items() if pid != before[name]] == ["broker"]
        assert await asyncio.to_thread(ensure_topics, settings) == topics

    log = stack.folder.kafka / "log"
    assert (log / ".kafka_cleanshutdown").exists()
    formatted = (log / "meta.properties").read_text()

    async with LocalStack(options, os.environ, parts=stand_in_parts) as stack:
        settings = stack.settings
        assert await asyncio.to_thread(ensure_topics, settings) == topics
        [record] = await asyncio.to_thread(read_topic, settings, "clicks")
        assert record.value == b"first"
        async with connect(settings) as redis:
            assert await redis.get("kept") == b"1"
    assert (log / "meta.properties").read_text() == formatted


def test_only_the_embedded_broker_is_asked_often(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.make()
    waits = {
        options.broker: choose_settings(options, {}, folder).worker.fetch_wait_ms
        for options in (StackOptions(**ANY), StackOptions(broker="apache", **ANY))
    }
    assert waits == {"embedded": 20, "apache": 500}


def test_a_broker_of_its_own_and_one_that_runs_are_not_both_had(tmp_path: Path) -> None:
    options = StackOptions(broker="apache", kafka="elsewhere:9092")
    with pytest.raises(StackError, match=r"--broker apache .* --kafka elsewhere:9092 .* one of"):
        choose_settings(options, {}, DataFolder(tmp_path))


async def test_a_stack_without_the_jars_tells_the_way_to_get_them(tmp_path: Path) -> None:
    options = StackOptions(data=tmp_path / "data", broker="apache", **ANY)
    environ = {**os.environ, "HEADRACE_KAFKA_JARS": str(tmp_path / "none")}
    with pytest.raises(StackError, match=rf"not in {tmp_path}/none; fetch them with `make kafka`"):
        async with LocalStack(options, environ, parts=stand_in_parts):
            pass
    assert not DataFolder(options.data).is_held()


def test_a_background_stack_gets_the_choice_and_the_folder_of_the_jars(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "headrace.cli", "up", "--detach", "--broker", "apache"]
        + [part for name in ("port", "kafka-port", "redis-port") for part in (f"--{name}", "0")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "HEADRACE_KAFKA_JARS": "none"},
        timeout=60,
    )
    stop_stack(DataFolder(tmp_path / ".headrace"))
    assert ended.returncode == 1
    assert f"are not in {tmp_path}/none; fetch them with `make kafka`" in ended.stderr


def test_fetching_the_jars_leaves_a_folder_of_other_things_alone(tmp_path: Path) -> None:
    kept = tmp_path / "mine.txt"
    kept.touch()
    script = Path(__file__).parents[2] / "tools" / "kafka"
    environ = {**os.environ, "HEADRACE_KAFKA_JARS": str(tmp_path)}
    ended = subprocess.run([script], capture_output=True, text=True, env=environ, timeout=60)
    assert ended.returncode == 1
    assert f"{tmp_path} holds other things than the jars (mine.txt)" in ended.stderr
    assert kept.exists()


def test_java_is_found_or_the_way_to_get_it_is_told(tmp_path: Path) -> None:
    found = find_apache(os.environ)
    jars = {"HEADRACE_KAFKA_JARS": str(found.jars)}
    with pytest.raises(StackError, match=r"There is no java.*apt install openjdk-17"):
        find_apache({**jars, "PATH": str(tmp_path)})
    with pytest.raises(StackError, match=rf"JAVA_HOME is {tmp_path}, where .*install Java 17"):
        find_apache({**jars, "JAVA_HOME": str(tmp_path)})
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    with pytest.raises(StackError, match=rf"{old} is Java 11, too old for Apache Kafka 4"):
        find_apache({**jars, "JAVA_HOME": str(tmp_path)})
    java = Path(found.java).resolve()
    assert find_apache({**jars, "JAVA_HOME": str(java.parents[1])}).jars == found.jars
