"""Reading the log from a real broker: a fixed window, each event once, in order."""

from __future__ import annotations

import json
import math
import random
import threading
from contextlib import closing
from typing import Any

import msgspec
import numpy as np
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError
from kafka_tools import send_events, send_raw, sender

from headrace.errors import HeadraceError
from headrace.events import KINDS
from headrace.log import end_offsets, ends, read_columns
from headrace.settings import Settings
from headrace.topics import EVENT_TOPICS, Topics, ensure_topics

pytestmark = pytest.mark.brokers("embedded", "apache")

NOW = 1_704_060_026.0


@pytest.fixture
def made(settings: Settings) -> Settings:
    ensure_topics(settings)
    return settings


def event(number: int, user: int, item: int, at: float, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "user_id": f"u{user}",
        "item_id": f"i{item}",
        "timestamp": at,
        **fields,
    }


def test_an_empty_log(made: Settings) -> None:
    through = end_offsets(made)
    partitions = {str(number): 0 for number in range(made.topics.partitions)}
    assert through == dict.fromkeys(EVENT_TOPICS, partitions)
    columns = read_columns(made, through)
    assert len(columns) == 0
    assert (columns.user_ids, columns.item_ids) == ((), ())


def test_events_of_all_topics_come_sorted_whatever_order_they_were_sent_in(made: Settings) -> None:
    rng = random.Random(1)
    sent: list[tuple[Any, ...]] = []
    for topic, kind in EVENT_TOPICS.items():
        events = [
            event(
                number,
                rng.randrange(20),
                rng.randrange(30),
                NOW + rng.randrange(40),
                **({"rating": number / 100} if kind == "rating" else {}),
            )
            | {"event_id": f"{kind}-{number}"}
            for number in range(200)
        ]
        for each, (partition, offset) in zip(events, send_events(made, topic, events), strict=True):
            sent.append((each["timestamp"], topic, partition, offset, kind, each))
    columns = read_columns(made, end_offsets(made))
    expected = [(row[4], row[5]) for row in sorted(sent, key=lambda row: row[:4])]
    assert len(columns) == len(expected) == 600
    for row, (kind, each) in enumerate(expected):
        assert columns.timestamp[row] == each["timestamp"]
        assert columns.user_ids[columns.user[row]] == each["user_id"]
        assert columns.item_ids[columns.item[row]] == each["item_id"]
        assert KINDS[columns.kind[row]] == kind
        rating = float(columns.rating[row])
        assert rating == pytest.approx(each["rating"]) if "rating" in each else math.isnan(rating)
    # Ids are numbered by their first place in the sorted log.
    for codes, ids in ((columns.user, columns.user_ids), (columns.item, columns.item_ids)):
        present, first = np.unique(codes, return_index=True)
        assert present.tolist() == list(range(len(ids)))
        assert (np.diff(first) > 0).all()
    again = read_columns(made, end_offsets(made))
    assert again.user.tolist() == columns.user.tolist()
    assert again.item_ids == columns.item_ids


def test_of_an_event_sent_twice_the_earliest_in_the_log_is_read(made: Settings) -> None:
    # Over four topic partitions, which a reader gets in any order.
    copies = [
        event(1, 1, 1, NOW + 3, rating=1.0),
        event(1, 2, 2, NOW + 1, rating=2.0),
        event(1, 3, 3, NOW + 2, rating=3.0),
        event(1, 4, 4, NOW + 2, rating=4.0),
        event(2, 5, 5, NOW, rating=5.0),
    ]
    send_events(made, "ratings", copies)
    columns = read_columns(made, end_offsets(made))
    assert columns.timestamp.tolist() == [NOW, NOW + 1]
    assert columns.rating.tolist() == [5.0, 2.0]
    assert (columns.user_ids, columns.item_ids) == (("u5", "u2"), ("i5", "i2"))


def test_what_is_no_event_is_passed_over(made: Settings) -> None:
    good = json.dumps(event(1, 1, 1, NOW)).encode()
    ahead = json.dumps(event(2, 1, 1, NOW * 1_000)).encode()
    rows = [(b"u", b"\xff"), (b"u", None), (None, good), (b"u", ahead), (b"u", b"x" * 70_000)]
    send_raw(made, "clicks", rows, partition=0)
    columns = read_columns(made, end_offsets(made))
    assert columns.timestamp.tolist() == [NOW]
    assert columns.through["clicks"]["0"] == 5


def test_the_window_holds_while_events_keep_coming(made: Settings) -> None:
    send_events(made, "clicks", [event(n, n % 7, n % 5, NOW + n) for n in range(300)])
    through = end_offsets(made)
    enough, sent_later = threading.Event(), threading.Event()

    def go_on() -> None:
        with sender(made) as producer:
            topic = Topics(made).name("clicks")
            for number in range(300, 10_000):
                value = json.dumps(event(number, number % 7, 1, NOW - number)).encode()
                producer.send(topic, key=f"u{number % 7}".encode(), value=value)
                if number == 600:
                    producer.flush()
                    sent_later.set()
                if enough.is_set():
                    return

    background = threading.Thread(target=go_on)
    background.start()
    try:
        assert sent_later.wait(30)
        columns = read_columns(made, through)
    finally:
        enough.set()
        background.join()
    assert columns.timestamp.tolist() == [NOW + n for n in range(300)]
    assert columns.through == through
    assert sum(end_offsets(made)["clicks"].values()) > 300


def test_a_window_may_end_before_the_log_does(made: Settings) -> None:
    send_raw(
        made,
        "clicks",
        [(b"u", json.dumps(event(n, 1, n, NOW + n)).encode()) for n in range(10)],
        partition=2,
    )
    columns = read_columns(made, {"clicks": {"2": 4}})
    assert columns.timestamp.tolist() == [NOW + n for n in range(4)]


def test_progress_is_told(made: Settings) -> None:
    send_events(made, "clicks", [event(n, n, n, NOW + n) for n in range(2_500)])
    told: list[float] = []
    read_columns(made, end_offsets(made), told.append)
    assert told == sorted(told)
    assert len(told) >= 2
    assert all(0 <= share <= 1 for share in told)


class Slow(KafkaConsumer):  # type: ignore[misc]
    """A consumer to whose fetches the broker does not answer in time."""

    def poll(self, *_: Any, **__: Any) -> dict[Any, Any]:
        return {}


@pytest.mark.brokers("embedded")
def test_an_end_that_is_not_told_is_no_end(made: Settings) -> None:
    send_events(made, "clicks", [event(n, 1, n, NOW) for n in range(3)])
    consumer = Slow(bootstrap_servers=made.kafka, enable_auto_commit=False)
    name = Topics(made).name("clicks")
    partitions = [TopicPartition(name, number) for number in consumer.partitions_for_topic(name)]
    with closing(consumer), pytest.raises(KafkaTimeoutError, match=rf"how far {name}/\d goes"):
        ends(consumer, partitions, patience_s=0.0)


@pytest.mark.brokers("embedded")
def test_a_broker_that_is_away_is_named(settings: Settings) -> None:
    away = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    with pytest.raises(HeadraceError, match=r"127\.0\.0\.1:9 .*HEADRACE_KAFKA"):
        end_offsets(away)
