"""Faust's Kafka consumer, with the setting for which Faust has none: how long a fetch waits.

Faust has a fetch wait up to 1.5 s at the broker. Apache Kafka answers a waiting fetch as soon as
records arrive; the embedded broker does not, so an event would be that old before an agent saw it.
"""

from __future__ import annotations

from typing import Any

from faust.transport.drivers import aiokafka as driver


def consumer_of(fetch_wait_ms: int) -> type[driver.Consumer]:
    """Return Faust's consumer whose fetches wait so many milliseconds at the longest."""

    class Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
        def _create_worker_consumer(self, transport: Any) -> Any:
            consumer = super()._create_worker_consumer(transport)
            # Read when the consumer starts.
            consumer._fetch_max_wait_ms = fetch_wait_ms
            return consumer

    class Consumer(driver.Consumer):  # type: ignore[misc]
        def _new_consumer_thread(self) -> Any:
            return Thread(self, loop=self.loop, beacon=self.beacon)

    return Consumer
