"""Dead letters: the bytes of a record that is wrong in itself, and why, and where it came from."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from headrace.errors import InvalidEvent
from headrace.producer import Outgoing, Producer
from headrace.settings import Settings
from headrace.topics import DEAD_LETTERS, Topics

NO_KEY = "no-key"
"""Header of a letter whose record had neither key nor value; its own key is empty."""
RESENT = "resent"
"""Header of a mark, a record of the topic that is no letter: the id of the one that was sent again.

The topic itself keeps it, as long as the letters: there is nothing else to be kept or cleared.
"""
RESENT_FROM = "resent-from"
"""Header of a record that was sent again: the id of its letter."""


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


class DeadLetters:
    """Sends records to the `dead-letters` topic, key and value as received, the rest in headers."""

    def __init__(self, producer: Producer, settings: Settings) -> None:
        self._producer = producer
        self._topic = Topics(settings).name(DEAD_LETTERS)

    async def send(self, record: Record, error: InvalidEvent) -> None:
        """Send one record and wait until Kafka has acknowledged it.

        Raises `aiokafka.errors.KafkaError`.
        """
        headers: tuple[tuple[str, bytes], ...] = (
            ("topic", record.topic.encode()),
            ("partition", str(record.partition).encode()),
            ("offset", str(record.offset).encode()),
            ("field", error.field.encode()),
            ("reason", str(error).encode(errors="backslashreplace")),
        )
        key = record.key
        if key is None and record.value is None:
            # Kafka keeps such a record, but aiokafka does not send one.
            key, headers = b"", (*headers, (NO_KEY, b""))
        await self._producer.send([Outgoing(self._topic, key, record.value, headers)])
