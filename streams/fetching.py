"""Faust's Kafka consumer, but for two things: where it begins, and how long a fetch waits.

It begins where Redis says that records are done with, not at the offsets committed in Kafka: Redis
may have lost its last second, and what was lost must come again. And Faust has a fetch wait up to
1.5 s at the broker. Apache Kafka answers a waiting fetch as soon as records arrive; the embedded
broker does not, so an event would be that old before an agent saw it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

Starts = Callable[[Iterable[TP]], Awaitable[Mapping[TP, int]]]
"""Returns of partitions the offset to begin at; a partition that is not named begins at 0."""


def consumer_of(fetch_wait_ms: int, starts: Starts) -> type[driver.Consumer]:
    """Return Faust's consumer that begins at `starts`.

    Its fetches wait `fetch_wait_ms` milliseconds at the longest.
    """

    class Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
        def _create_worker_consumer(self, transport: Any) -> Any:
            consumer = super()._create_worker_consumer(transport)
            # Read when the consumer starts.
            consumer._fetch_max_wait_ms = fetch_wait_ms
            return consumer

    class Consumer(driver.Consumer):  # type: ignore[misc]
        def _new_consumer_thread(self) -> Any:
            return Thread(self, loop=self.loop, beacon=self.beacon)

        async def seek_to_committed(self) -> Mapping[TP, int]:
            """Go to where the assigned partitions begin; Faust calls it after each rebalance."""
            partitions = self.assignment()
            wanted = await starts(partitions)
            kept = await self.earliest_offsets(*partitions) if partitions else {}
            begins = {tp: max(wanted.get(tp, 0), kept.get(tp, 0)) for tp in partitions}
            if begins:
                await self.seek_wait(begins)
            return begins

    return Consumer
