"""Made-up events of 200 bytes, the same at each call, by the partition of their users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from aiokafka.partitioner import DefaultPartitioner

from headrace.commands.synthetic_log import zipf

BYTES = 200
"""Of an event's value, as JSON."""
USERS, ITEMS = 100_000, 50_000
SHARES = {"clicks": 0.6, "ratings": 0.3, "purchases": 0.1}
_PIECE = 50_000
_APART_S = 1e-4
_PAGE = "/departments/garden/tools-and-more/spring-offers/page-1?from=newsletter&campaign=may"

Piece = dict[tuple[str, int], list[tuple[bytes, bytes]]]
"""By topic and partition, keys and values in their order."""


@dataclass(frozen=True)
class MadeUpEvents:
    """A log without an end. Users are drawn by Zipf's law with exponent 0.5, items with 1."""

    partitions: int
    began_at: float
    """Unix seconds of the first event; the others follow 0.1 ms apart."""
    seed: int = 0
    _partition_of: dict[str, int] = field(default_factory=dict)

    def pieces(self, events: int, first: int = 0) -> Iterator[Piece]:
        """Yield `events` of them, a piece at a time, from number `first` on."""
        user_chances, item_chances = zipf(USERS, 0.5), zipf(ITEMS, 1.0)
        topics = list(SHARES)
        shares = np.cumsum(list(SHARES.values()))
        for start in range(first, first + events, _PIECE):
            count = min(_PIECE, first + events - start)
            rng = np.random.default_rng((self.seed, start))
            piece: Piece = {}
            rows = zip(
                np.searchsorted(shares[:-1], rng.random(count)).tolist(),
                np.searchsorted(user_chances, rng.random(count)).tolist(),
                np.searchsorted(item_chances, rng.random(count)).tolist(),
                rng.integers(1, 6, count).tolist(),
                strict=True,
            )
            for number, (topic, user, item, stars) in enumerate(rows, start):
                user_id = f"user-{user:06}"
                value = self.value(topics[topic], number, user_id, f"item-{item:05}", stars)
                place = topics[topic], self.partition_of(user_id)
                piece.setdefault(place, []).append((user_id.encode(), value))
            yield piece

    def value(self, topic: str, number: int, user_id: str, item_id: str, stars: int = 4) -> bytes:
        """Return an event as JSON."""
        extra = {
            "clicks": "",
            "ratings": f',"rating":{stars}',
            "purchases": f',"quantity":1,"price":{stars}.99,"currency":"EUR"',
        }[topic]
        head = (
            f'{{"event_id":"{self.seed:08x}-{number:012x}","user_id":"{user_id}",'
            f'"item_id":"{item_id}","timestamp":{self.began_at + number * _APART_S:.4f}{extra},'
            '"context":{"page":"'
        )
        return (head + _PAGE[: BYTES - len(head) - 3] + '"}}').encode()

    def partition_of(self, user_id: str) -> int:
        """Return the partition where Kafka's own clients put this user's events."""
        known = self._partition_of.get(user_id)
        if known is None:
            numbers = list(range(self.partitions))
            known = _partitioner(user_id.encode(), numbers, numbers)
            self._partition_of[user_id] = known
        return known


_partitioner = DefaultPartitioner()
