"""`headrace topics`: what was sent, and what workers have done of it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import headrace
from kafka.admin import KafkaAdminClient
from kafka_tools import send_raw
from parts import Part, eventually

from headrace.settings import Settings
from headrace.topic_figures import TopicsObserver
from headrace.topics import ALL, ensure_topics


def figures(settings: Settings, *arguments: str) -> dict[str, Any]:
    ended = headrace("topics", *arguments, "--json", "--over=100ms", **settings.environ())
    assert (ended.returncode, ended.stderr) == (0, "")
    return {topic["topic"]: topic for topic in json.loads(ended.stdout)["topics"]}


def click(number: int) -> tuple[bytes, bytes]:
    event = {"event_id": str(number), "user_id": "u", "item_id": "i", "timestamp": 1_704_060_026}
    return b"u", json.dumps(event).encode()


def test_describing_makes_nothing_and_creating_makes_what_is_missing(settings: Settings) -> None:
    prefix = settings.topics.prefix
    ended = headrace("topics", "--over=0", **settings.environ())
    assert ended.returncode == 0
    assert ended.stdout.count("missing") == len(ALL) + 1
    assert "`headrace topics create`" in ended.stdout
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        assert not [name for name in admin.list_topics() if name.startswith(prefix)]
    finally:
        admin.close()

    made = headrace("topics", "create", **settings.environ())
    assert made.returncode == 0
    known = ensure_topics(settings)
    assert all(topic.name in made.stdout and topic.id in made.stdout for topic in known.values())
    shown = figures(settings)
    assert {topic["name"]: topic["id"] for topic in shown.values()} == {
        name: topic.id for name, topic in known.items()
    }
    assert "missing" not in headrace("topics", "--over=0", **settings.environ()).stdout


def test_it_shows_what_was_sent(settings: Settings) -> None:
    ensure_topics(settings)
    before = time.time()
    # Batches of many records: the embedded broker lists the end of the last one as one record.
    send_raw(settings, "clicks", [click(number) for number in range(700)], partition=1)
    send_raw(settings, "clicks", [click(number) for number in range(30)], partition=2)
    send_raw(settings, "dead-letters", [(None, b"x")], partition=0)
    shown = figures(settings)
    clicks = shown["clicks"]
    assert [(p["begin"], p["end"]) for p in clicks["partitions"]] == [
        (0, 0), (0, 700), (0, 30), (0, 0),
    ]  # fmt: skip
    assert (clicks["records"], clicks["lag"]) == (730, 730)
    assert [p["position"] for p in clicks["partitions"]] == [None] * 4
    assert before - 1 <= clicks["newest"] <= time.time()
    assert (shown["ratings"]["records"], shown["ratings"]["newest"]) == (0, None)
    # No worker reads these, so nothing lags.
    assert (shown["dead-letters"]["records"], shown["dead-letters"]["lag"]) == (1, None)

    table = headrace("topics", "describe", "clicks", "--over=0", **settings.environ()).stdout
    rows = [line.split() for line in table.splitlines()]
    assert [row[:3] for row in rows[1:]] == [
        ["0", "0", "0"], ["1", "0", "700"], ["2", "0", "30"], ["3", "0", "0"],
    ]  # fmt: skip
    name = f"{settings.topics.prefix}clicks"
    assert figures(settings, "describe", name)["clicks"]["records"] == 730


async def test_lag_is_what_workers_have_still_to_do(settings: Settings, tmp_path: Path) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    send_raw(settings, "clicks", [click(number) for number in range(20)], partition=3)
    with Part("worker", settings, tmp_path) as worker:

        async def done() -> bool:
            shown = await asyncio.to_thread(figures, settings)
            return bool(shown["clicks"]["lag"] == 0 and shown["items"]["lag"] == 0)

        await eventually(done, "the lag is 0")
        worker.end(signal.SIGTERM)
    send_raw(settings, "clicks", [click(number) for number in range(20, 25)], partition=3)
    clicks = (await asyncio.to_thread(figures, settings))["clicks"]
    assert clicks["lag"] == 5
    assert [(p["position"], p["lag"]) for p in clicks["partitions"]][3] == (20, 5)


def test_rates_are_of_the_sample_alone(settings: Settings) -> None:
    ensure_topics(settings)
    send_raw(settings, "clicks", [click(0)] * 50, partition=0)

    def meanwhile(_: float) -> None:
        send_raw(settings, "clicks", [click(0)] * 30, partition=0)
        send_raw(settings, "clicks", [click(0)] * 10, partition=1)

    observer = TopicsObserver(settings)
    try:
        [clicks, ratings], unknown = observer.figures(
            ("clicks", "ratings"), over_s=1.0, sleep=meanwhile
        )
        assert unknown == ""
        first, second, *others = (partition.rate_in for partition in clicks.partitions)
        assert first > 0
        assert first == pytest.approx(3 * second)
        assert others == [0, 0]
        assert (ratings.rate_in, ratings.rate_out) == (0, 0)
        # Once more over the same connection.
        [clicks], _ = observer.figures(("clicks",), over_s=1.0, sleep=lambda _: None)
        assert (clicks.records, clicks.rate_in) == (90, 0)
    finally:
        observer.close()


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["describe", "click"], "'click' is not a topic; there are clicks, purchases"),
        (["--over=soon"], "--over 'soon' is no duration; write it like 2s"),
        (["--over=32d"], "--over '32d' is too long; rates are measured for 31d at the most."),
        (["describe", "clicks", "--over=99999999999d"], "--over '99999999999d' is too long"),
    ],
)
def test_wrong_use_is_told_the_right_one(
    arguments: list[str], cure: str, settings: Settings
) -> None:
    ended = headrace("topics", *arguments, **settings.environ())
    assert ended.returncode == 1
    assert cure in ended.stderr


@pytest.mark.parametrize("arguments", [[], ["describe", "clicks"], ["create"]], ids=" ".join)
def test_a_kafka_that_is_away_is_named(arguments: list[str]) -> None:
    ended = headrace("topics", *arguments, HEADRACE_KAFKA="127.0.0.1:9")
    assert ended.returncode == 1
    assert ended.stderr.startswith("headrace: Kafka at 127.0.0.1:9 ")
    assert "HEADRACE_KAFKA" in ended.stderr
    assert ended.stderr.count("\n") == 1
