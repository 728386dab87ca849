"""Events for a chaos test: duplicates, late ones and such as are wrong in themselves."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer

from headrace.settings import Settings
from headrace.topics import EVENT_TOPICS, Topics

BEGIN = 1_704_060_026.0
"""Unix seconds of the first event."""
_WAIT_S = 120.0
MALFORMED: Mapping[bytes | None, str] = {
    b"\xff\x00 not json": "not JSON",
    b"[]": "Expected `object`",
    b'{"event_id": "e", "user_id": "u", "item_id": "i"}': "is required",
    b'{"event_id": "e", "user_id": "u", "item_id": "i", "timestamp": 1704060026000}': (
        "send Unix seconds|rating: is required"
    ),
    b'{"event_id": "e", "user_id": "u", "item_id": "i", "timestamp": 1, "colour": 1}': "colour: ",
    b'{"event_id": "e", "user_id": "", "item_id": "i", "timestamp": 1}': "user_id: ",
    None: "no value",
}
"""Values that no topic of events takes, and a pattern of the reason."""


@dataclass(frozen=True)
class Load:
    """What is sent."""

    events: int
    """Records in all."""
    users: int
    """So many that the events of each are fewer than are remembered (`REMEMBERED`): past those a
    duplicate counts or not by which topic's event comes first, and that nobody promises."""
    items: int
    topics: Sequence[str] = tuple(EVENT_TOPICS)
    duplicates: float = 0.1
    """Share of records that are an event sent before, with the same `event_id`."""
    late: float = 0.1
    """Share of events that are up to a week older than their neighbours."""
    malformed: float = 0.001


@dataclass(frozen=True)
class Sent:
    """A record that is to be sent."""

    topic: str
    key: bytes
    value: bytes | None


def draw(load: Load, rng: random.Random) -> Iterator[Sent]:
    """Yield the records in the order in which they are sent."""
    sent: list[Sent] = []
    name = f"{rng.getrandbits(32):08x}"
    malformed = list(MALFORMED)
    for number in range(load.events):
        if rng.random() < load.malformed or number < len(malformed):
            # One of each kind at least.
            value = malformed[number % len(malformed)]
            yield Sent(rng.choice(load.topics), f"user-{rng.randrange(load.users)}".encode(), value)
        elif sent and rng.random() < load.duplicates:
            yield rng.choice(sent)
        else:
            sent.append(_event(load, rng, f"{name}-{number}", number))
            yield sent[-1]


def _event(load: Load, rng: random.Random, event_id: str, number: int) -> Sent:
    topic = rng.choice(load.topics)
    user = f"user-{rng.randrange(load.users)}"
    at = BEGIN + number // 7
    if rng.random() < load.late:
        at -= rng.randrange(7 * 24 * 3600)
    event: dict[str, Any] = {
        "event_id": event_id,
        "user_id": user,
        # Some items are met far more often than others.
        "item_id": f"item-{int(load.items * rng.random() ** 2)}",
        "timestamp": at,
    }
    if topic == "ratings":
        event["rating"] = rng.randrange(1, 11) / 2
    return Sent(topic, user.encode(), json.dumps(event).encode())


class Sender:
    """Sends records up to where it is allowed to; goes on by itself after the broker was away."""

    def __init__(self, settings: Settings, records: Sequence[Sent]) -> None:
        self._settings = settings
        self._records = records
        self._allowed = threading.Semaphore(0)
        self._given_up = False

    def allow(self, count: int) -> None:
        """Let it send so many more."""
        self._allowed.release(count)

    def give_up(self) -> None:
        """Have it send nothing more."""
        self._given_up = True
        self._allowed.release()

    def send(self) -> list[tuple[str, int, int]]:
        """Send all; return the topic, partition and offset of each, all acknowledged. Blocks."""
        topics = Topics(self._settings)
        producer = KafkaProducer(
            bootstrap_servers=self._settings.kafka, acks="all", linger_ms=5, max_block_ms=120_000
        )
        pending: list[Any] = []
        try:
            for record in self._records:
                self._allowed.acquire()
                if self._given_up:
                    return []
                name = topics.name(record.topic)
                pending.append(producer.send(name, key=record.key, value=record.value))
            acknowledged = [each.get(_WAIT_S) for each in pending]
        finally:
            producer.close()
        return [(topics.plain(ack.topic), ack.partition, ack.offset) for ack in acknowledged]
