"""Faust's Kafka consumer, but for where it begins, how long a fetch waits, and what becomes of one.

It begins where Redis says that records are done with, not at the offsets committed in Kafka: Redis
may have lost its last second, and what was lost must come again. Faust has a fetch wait up to 1.5 s
at the broker. Apache Kafka answers a waiting fetch as soon as records arrive; the embedded broker
does not, so an event would be that old before an agent saw it. And Faust makes four tasks for each
record that it hands to a stream, to be able to break off; here they are made for each fetch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.failure import end_process

logger = logging.getLogger(__name__)

Starts = Callable[[Iterable[TP]], Awaitable[Mapping[TP, int]]]
"""Returns of partitions the offset to begin at; a partition that is not named begins at 0."""
_LOOK_S = 1.0
_AT_ONCE = 100
"""Records that are handed over before others have their turn."""
_GONE = (
    "%s/%d: the records from offset %d to %d were gone from Kafka before a worker came to them; "
    "`headrace replay --into NAME` and `headrace promote NAME` make the state anew with what the "
    "archive has of them"
)
_CUT_OFF = (
    "{tp.topic}/{tp.partition} has to be read from offset {at} again, though the records before "
    "{done} are applied: Kafka has lost its end, or the topic was made anew. What is written there "
    "now would be taken for applied; if this comes again, `headrace replay --into NAME` and "
    "`headrace promote NAME` make the state anew."
)


class Reached(NamedTuple):
    """How far a partition was read.

    When all is done that was handed over, there is nothing to do before `position`: what lies in
    between are marks of transactions, or what retention and compaction took away.
    """

    handed_over: int
    """The offset after the last record that a stream was given; 0: it was given none."""
    position: int
    """Of the next record to fetch."""


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
            self.reached: dict[TP, Reached] = {}
            self._next: dict[TP, int] = {}
            """The offset after the last record that was handed over since the last seek."""
            self._is_whole = True
            """Whether all was handed over that was fetched since then; if not, a seek follows."""
            self._begins: Mapping[TP, int] = {}
            """Where the partitions in hand were begun."""
            self._looked = 0.0

        def _new_consumer_thread(self) -> Any:
            return Thread(self, loop=self.loop, beacon=self.beacon)

        def on_buffer_full(self, tp: TP) -> None:
            """Go on reading the partition: handing over waits while a buffer is full.

            Faust would leave it out of its fetches until the buffer is half empty, and not be woken
            by that: for up to a second nothing is read where no other partition has records.
            """

        async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
            """Hand over what a fetch brings; nothing is left to yield. Faust calls it in a loop."""
            whole, self._is_whole = self._is_whole, False
            generation = self.app.consumer_generation_id
            records = [record async for record in super().getmany(timeout)]
            if records:
                self.handed_over.clear()
                try:
                    await self.wait_first(self._hand_over(records, whole), self.suspend_flow.wait())
                finally:
                    self.handed_over.set()
            elif self.flow_active and self.app.consumer_generation_id == generation:
                self._is_whole = whole
            await self._look()
            nothing: tuple[tuple[TP, Any], ...] = ()
            for record in nothing:
                yield record

        async def _hand_over(self, records: Sequence[tuple[TP, Any]], whole: bool) -> None:
            """Give the records to their streams, unless they are no longer this worker's.

            `whole`: what was fetched before has been handed over.
            """
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
                self._next[tp] = message.offset + 1
            self._is_whole = whole

        async def _look(self) -> None:
            """Note now and again how far the partitions were read, while nothing is on its way."""
            now = self.loop.time()
            if now - self._looked < _LOOK_S or not (self._is_whole and self.flow_active):
                return
            self._looked = now
            for tp in self.assignment():
                # One that was taken away meanwhile, or has no position yet, is left out.
                with contextlib.suppress(KafkaError, asyncio.TimeoutError):
                    at = await asyncio.wait_for(self.position(tp), _LOOK_S)
                    done = self._next.get(tp, self._begins.get(tp, 0))
                    if at is not None and at < done:
                        end_process(_CUT_OFF.format(tp=tp, at=at, done=done))
                    self.reached[tp] = Reached(self._next.get(tp, 0), at or 0)

        async def seek_to_committed(self) -> Mapping[TP, int]:
            """Go to where the assigned partitions begin; Faust calls it after each rebalance."""
            partitions = self.assignment()
            self.reached, self._next, self._begins = {}, {}, {}
            wanted = await starts(partitions)
            kept = await self.earliest_offsets(*partitions) if partitions else {}
            begins = {tp: max(wanted.get(tp, 0), kept.get(tp, 0)) for tp in partitions}
            for tp, begin in begins.items():
                if begin > wanted.get(tp, begin):
                    logger.error(_GONE, tp.topic, tp.partition, wanted[tp], begin)
            if begins:
                await self.seek_wait(begins)
            self._begins, self._is_whole = begins, True
            return begins

    return Consumer
