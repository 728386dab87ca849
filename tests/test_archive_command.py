"""`headrace archive` as a user runs it: killed, twice at once, over and over."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_tools import archived_rows, files, send
from kafka_tools import read_topic

from headrace.archive import ASIDE, Archive, Segment
from headrace.archiver import archive_held
from headrace.local import launch
from headrace.settings import Settings
from headrace.topics import ensure_topics

DAY = 24 * 3_600_000
PATIENCE_S = 60.0


def command(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    """`headrace archive` in a process that ends with this one."""
    launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()))
    code = "from headrace.cli import main; main()"
    return subprocess.Popen(
        (*launcher, sys.executable, "-c", code, "archive", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **settings.environ(), "COLUMNS": "200"},
    )


def archive(settings: Settings, *arguments: str) -> tuple[int, str]:
    """Run `headrace archive` to its end; return its exit status and what it said."""
    process = command(settings, *arguments)
    said, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, said


def test_what_was_archived_is_shown(settings: Settings) -> None:
    ensure_topics(settings)
    send(settings, "clicks", 1, [(b"k", DAY, b"v" * 1_000)] * 1_234)
    status, said = archive(settings)
    assert status == 0, said
    assert re.search(r"clicks +4 +1,234 +1 +[\d.,]+ kB +0:0 1:1234 2:0 3:0 *\n", said)
    assert re.search(r"ratings +4 +0 +0 +0 bytes +0:0 1:0 2:0 3:0 *\n", said)
    assert re.search(r"clicks +4 +0 +0 +0 bytes +0:0 1:1234", archive(settings)[1])


def test_a_topic_that_there_is_not_is_named(settings: Settings) -> None:
    status, said = archive(settings, "--topics", "clicks,views")
    assert (status, said.partition(";")[0]) == (1, "headrace: 'views' is not a topic")


def test_topics_are_chosen(settings: Settings) -> None:
    ensure_topics(settings)
    send(settings, "items", 0, [(b"k", DAY, b"v")])
    assert archive(settings, "--topics", "items, retrain")[0] == 0
    assert [path.parts[-5] for path in files(settings)] == ["items"]


def test_a_second_one_is_refused(settings: Settings) -> None:
    with archive_held(Path(settings.archive)):
        status, said = archive(settings)
    assert status == 1
    assert re.fullmatch(
        rf"headrace: .*/archive is being written by process {os.getpid()} on .*\. Wait .*\n", said
    )


def test_killed_anywhere_again_and_again_it_comes_out_whole(settings: Settings) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    ensure_topics(settings)
    # A file a day, so that a run may be killed between any two of many.
    sent = [(b"k%d" % number, number * DAY, os.urandom(200)) for number in range(300)]
    for partition in range(4):
        send(settings, "clicks", partition, sent)
    aside = Path(settings.archive) / ASIDE
    kills = 0
    while kills < 8:
        before = len(files(settings))
        process = command(settings)
        if rng.random() < 0.3:
            until = rng.uniform(0, 1.5)
        else:
            goal = before + rng.randrange(150)
            _wait(lambda: len(files(settings)) >= goal or process.poll() is not None)  # noqa: B023
            until = rng.uniform(0, 0.05)
        time.sleep(until)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        # What is there is the beginning of what will be, at any moment.
        for partition, segments in _segments(settings).items():
            end = segments[-1].offsets.stop if segments else 0
            rows = [row[1] for row in archived_rows(settings, "clicks") if row[0] == partition]
            assert rows == list(range(end))
        if process.returncode == 0:
            for partition in range(4):
                send(settings, "clicks", partition, sent)
    status, said = archive(settings)
    assert status == 0, said
    expected = [
        (each.partition, each.offset, each.timestamp, each.key, each.value)
        for each in read_topic(settings, "clicks")
    ]
    assert [row[:5] for row in archived_rows(settings, "clicks")] == expected
    assert list(aside.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_over_and_over_until_it_is_ended(settings: Settings, number: signal.Signals) -> None:
    ensure_topics(settings)
    process = command(settings, "--every", "1")
    try:
        for count in range(1, 4):
            send(settings, "clicks", 0, [(b"k", DAY, b"v")])
            _wait(lambda: len(archived_rows(settings, "clicks")) == count)  # noqa: B023
            assert process.poll() is None
    finally:
        process.send_signal(number)
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert said.endswith("Ended; the next run goes on from here.\n")


def _segments(settings: Settings) -> dict[int, list[Segment]]:
    found = Archive(Path(settings.archive)).incarnations("clicks")
    return found[0].segments() if found else {}


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
