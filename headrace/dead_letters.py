"""Dead letters: the bytes of a record that is wrong in itself, and why, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from msgspec import Struct

from headrace.errors import InvalidEvent
from headrace.producer import Outgoing, Producer
from headrace.settings import Settings
from headrace.topics import DEAD_LETTERS, Topics

TOPIC_ID = "topic-id"
"""Header of a letter: the id of the topic that its record was in, "" where nobody knew it."""
NO_KEY = "no-key"
"""Header of a letter whose record had neither key nor value; its own key is empty."""
RESENT = "resent"
"""Header of a mark, a record of the topic that is no letter: the id of the one that was sent again.

The topic itself keeps it, as long as the letters: there is nothing else to be kept or cleared.
"""
RESENT_FROM = "resent-from"
"""Header of a record that was sent again: the id of its letter."""
_WHOLE = 900_000
"""Bytes of a letter that are sent whole: aiokafka sends 1 MiB of a record at the most."""
_KEPT = 64 << 10
"""Bytes of a key or value that is cut, as of the largest event that could be right."""


class Record(Struct, frozen=True):
    """A record as Kafka delivered it."""

    topic: str
    """As the broker names it."""
    partition: int
    offset: int
    timestamp: float
    """The record's own time, in Unix seconds."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


Wrong = tuple[Record, InvalidEvent]
"""A record that is wrong in itself, and why."""


class _Named(Struct):
    user_id: Any = None


_named_decoder = msgspec.json.Decoder(_Named)


def users_of(key: bytes | None, value: bytes | None) -> set[str]:
    """Return whose a record may be that is wrong in itself: by its key, and by its `user_id`."""
    users = {(key or b"").decode(errors="replace")}
    # What is not even JSON names nobody.
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        named = _named_decoder.decode(value or b"").user_id
        if isinstance(named, str):
            users.add(named)
    return users


class DeadLetters:
    """Sends records to the `dead-letters` topic, key and value as received, the rest in headers."""

    def __init__(
        self, producer: Producer, settings: Settings, topic_ids: Mapping[str, str] | None = None
    ) -> None:
        """`topic_ids`: of the topics that records come from, by the broker's names."""
        self._producer = producer
        self._topic = Topics(settings).name(DEAD_LETTERS)
        self._topic_ids = topic_ids or {}

    async def send(self, wrong: Sequence[Wrong]) -> None:
        """Send records and wait until Kafka has acknowledged each.

        Raises `aiokafka.errors.KafkaError`; some may have been sent then.
        """
        letters = [self._letter(record, error) for record, error in wrong]
        too_large: list[Outgoing] = []
        for letter, outcome in zip(letters, await self._producer.send_each(letters), strict=True):
            if isinstance(outcome, MessageSizeTooLargeError):
                # Whoever tried again would do so for ever.
                too_large.append(_cut(letter))
            elif isinstance(outcome, KafkaError):
                raise outcome
        if too_large:
            await self._producer.send(too_large)

    def _letter(self, record: Record, error: InvalidEvent) -> Outgoing:
        headers: tuple[tuple[str, bytes], ...] = (
            ("topic", record.topic.encode()),
            (TOPIC_ID, self._topic_ids.get(record.topic, "").encode()),
            ("partition", str(record.partition).encode()),
            ("offset", str(record.offset).encode()),
            ("field", error.field.encode()),
            ("reason", str(error).encode(errors="backslashreplace")),
        )
        key = record.key
        if key is None and record.value is None:
            # Kafka keeps such a record, but aiokafka does not send one.
            key, headers = b"", (*headers, (NO_KEY, b""))
        letter = Outgoing(self._topic, key, record.value, headers)
        return _cut(letter) if _size(letter) > _WHOLE else letter


def _size(letter: Outgoing) -> int:
    of_headers = sum(len(name) + len(value) for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + of_headers


def _cut(letter: Outgoing) -> Outgoing:
    """Return a letter with the beginning of key and value, whose reason tells the whole size."""
    size = len(letter.key or b"") + len(letter.value or b"")
    told = f"; cut, it was {size:,} bytes".encode()
    headers = tuple(
        (name, value[:_KEPT] + told if name == "reason" else value)
        for name, value in letter.headers
    )
    key, value = (None if each is None else each[:_KEPT] for each in (letter.key, letter.value))
    return Outgoing(letter.topic, key, value, headers)
