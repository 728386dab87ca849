"""A producer that sends at a given rate whatever comes of it: an open loop.

Run as a process: `python -m streams.bench.load RATE SECONDS`, with the settings in the environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator

from headrace.settings import Settings
from headrace.settings_source import load_settings
from streams.bench.events import MadeUpEvents, Piece
from streams.bench.filling import filler

_TICK_S = 0.01
"""As much as a batch holds. The embedded broker's fetches cost the more the more batches it has."""

Chunk = tuple[str, int, list[tuple[bytes, bytes]]]


async def run(settings: Settings, rate: float, seconds: float) -> None:
    """Send `rate` events a second for so long, a few at a time to one partition after the other."""
    log = MadeUpEvents(settings.topics.partitions, time.time(), seed=1)
    size = max(1, round(rate * _TICK_S))
    chunks = [chunk for piece in log.pieces(int(rate * seconds)) for chunk in spread(piece, size)]
    async with filler(settings) as filling:
        pending, sent, began = [], 0, time.perf_counter()
        for topic, partition, records in chunks:
            await asyncio.sleep(max(0.0, sent / rate - (time.perf_counter() - began)))
            pending += await filling.send(topic, partition, records)
            sent += len(records)
        await asyncio.gather(*pending)


def spread(piece: Piece, size: int) -> Iterator[Chunk]:
    """Yield the events by so many, each place's spread evenly over the whole."""
    chunks = [
        (start / len(records), topic, partition, records[start : start + size])
        for (topic, partition), records in piece.items()
        for start in range(0, len(records), size)
    ]
    for _, topic, partition, records in sorted(chunks, key=lambda chunk: chunk[0]):
        yield topic, partition, records


if __name__ == "__main__":
    asyncio.run(run(load_settings(os.environ), float(sys.argv[1]), float(sys.argv[2])))
