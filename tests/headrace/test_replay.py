"""Reading the topics once more, from a real broker."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from kafka_tools import send_raw

from headrace.errors import HeadraceError
from headrace.local import launch
from headrace.local.binaries import broker_command, find_broker
from headrace.local.ports import claim_port
from headrace.log import end_offsets
from headrace.replay import replay
from headrace.settings import Settings
from headrace.topics import ensure_topics, event_topic_ids

pytestmark = pytest.mark.brokers("embedded", "apache")


@pytest.fixture
def made(settings: Settings) -> Settings:
    ensure_topics(settings)
    return settings


def values(count: int) -> list[tuple[bytes | None, bytes | None]]:
    return [(b"key", f"value {number}".encode()) for number in range(count)]


def test_whatever_the_values_they_come_whole_and_a_partition_in_order(made: Settings) -> None:
    sent = [*values(50), (b"key", None), (b"", b""), (None, b"\xff" * 100_000)]
    send_raw(made, "clicks", sent, partition=1)
    send_raw(made, "ratings", values(20), partition=0)
    got: dict[str, list[tuple[int, int, bytes | None]]] = {"clicks": [], "ratings": []}
    for batch in replay(made, end_offsets(made)):
        topic, records = batch.topic, batch.records
        assert batch.topic_id == event_topic_ids(made)[topic]
        columns = (records.partition.tolist(), records.offset.tolist(), records.values)
        got[topic] += zip(*columns, strict=True)
        assert abs(records.time / 1000 - time.time()).max() < 600
    assert got["clicks"] == [(1, offset, value) for offset, (_, value) in enumerate(sent)]
    assert got["ratings"] == [(0, offset, value) for offset, (_, value) in enumerate(values(20))]


def test_a_log_that_ends_before_the_window_is_not_waited_for_for_ever(made: Settings) -> None:
    send_raw(made, "clicks", values(3), partition=0)
    batches = replay(made, {"clicks": {"0": 4}}, patience_s=0.1)
    assert next(batches).records.values == [value for _, value in values(3)]
    with pytest.raises(HeadraceError, match="1 partitions are not read to their end"):
        next(batches)


def test_left_early_it_leaves_nothing_running(made: Settings) -> None:
    send_raw(made, "clicks", values(3), partition=0)
    before = threading.active_count()
    with closing(replay(made, {"clicks": {"0": 3}})) as batches:
        next(batches)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.brokers("embedded")
def test_a_broker_that_is_not_there_is_named(settings: Settings) -> None:
    away = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    with pytest.raises(HeadraceError, match=r"127\.0\.0\.1:9 .*HEADRACE_KAFKA"):
        next(replay(away, {"clicks": {"0": 1}}))


@pytest.mark.brokers("embedded")
def test_a_broker_that_goes_away_ends_it(settings: Settings, tmp_path: Path) -> None:
    port = claim_port(0, host="127.0.0.1", use="the test's own broker", option="")
    with (tmp_path / "broker.log").open("wb") as log:
        launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()))
        command = (*launcher, *broker_command(find_broker(os.environ), port))
        broker = subprocess.Popen(command, stdout=log, stderr=log, env={}, cwd=tmp_path)
    try:
        own = msgspec.structs.replace(settings, kafka=f"127.0.0.1:{port}")
        _wait_for(own)
        send_raw(own, "clicks", values(3), partition=0)
        batches = replay(own, {"clicks": {"0": 4}}, patience_s=2)
        next(batches)
        broker.kill()
        with pytest.raises(HeadraceError, match=rf"127\.0\.0\.1:{port} .*Is the broker well"):
            next(batches)
    finally:
        broker.kill()
        broker.wait()


def _wait_for(settings: Settings) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            ensure_topics(settings)
            return
        except HeadraceError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
