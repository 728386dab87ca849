"""Faust's Kafka consumer, but for where it begins, how long a fetch waits, and what becomes of one.

It begins where Redis says that records are done with, not at the offsets committed in Kafka: Redis
may have lost its last second, and what was lost must come again. Faust has a fetch wait up to 1.5 s
at the broker. Apache Kafka answers a waiting fetch as soon as records arrive; the embedded broker
does not, so an event would be that old before an agent saw it. And Faust makes four tasks for each
record that it hands to a stream, to be able to break off; here they are made for each fetch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

Starts = Callable[[Iterable[TP]], Awaitable[Mapping[TP, int]]]
"""Returns of partitions the offset to begin at; a partition that is not named begins at 0."""
_AT_ONCE = 100
"""Records that are handed over before others have their turn."""


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
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.handed_over = asyncio.Event()
            """Set while there is nothing left of what the last fetch has brought."""

        def _new_consumer_thread(self) -> Any:
            return Thread(self, loop=self.loop, beacon=self.beacon)

        async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
            """Hand over what a fetch brings; nothing is left to yield. Faust calls it in a loop."""
            records = [record async for record in super().getmany(timeout)]
            if records:
                self.handed_over.clear()
                try:
                    await self.wait_first(self._hand_over(records), self.suspend_flow.wait())
                finally:
                    self.handed_over.set()
            nothing: tuple[tuple[TP, Any], ...] = ()
            for record in nothing:
                yield record

        async def _hand_over(self, records: Sequence[tuple[TP, Any]]) -> None:
            """Give the records to their streams, unless they are no longer this worker's."""
            for number, (tp, message) in enumerate(records):
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
                ours = message.generation_id == self.app.consumer_generation_id
                if not (self.flow_active and ours):
                    return
                read = self._read_offset[tp]
                if read is not None and message.offset < read:
                    continue
                if (
                    read
                    and message.offset > read + 1
                    and self.app.topics.acks_enabled_for(tp.topic)
                ):
                    # What compaction or a transaction left out is done with.
                    await self._add_gap(tp, read + 1, message.offset)
                await self.callback(message)
                self._read_offset[tp] = message.offset

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
