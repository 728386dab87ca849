"""Reading a window of topics once more, from their beginning, as fast as Kafka gives them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Generator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from headrace.cancellation import cancel_until_done
from headrace.errors import HeadraceError
from headrace.records import Records
from headrace.settings import Settings
from headrace.topics import Topics

_POLL_MS = 500

T = TypeVar("T")
Ends = Mapping[TopicPartition, int]
Polled = dict[TopicPartition, list[Any]]
"""aiokafka's records by partition."""


def replay(
    settings: Settings, through: Mapping[str, Mapping[str, int]], *, patience_s: float = 60.0
) -> Generator[tuple[str, Records], None, None]:
    """Yield a topic, without its prefix, and some of its records, until all were yielded.

    `through` gives by topic and partition the offset to end at, exclusive. Records of a partition
    come in order. Partitions are assigned, so no consumer group is joined or disturbed. aiokafka
    reads, whose parser is compiled, in a thread of its own: it fetches while the caller works.

    Blocks; close it when it is left before its end. Raises `HeadraceError` when Kafka cannot be
    reached, or no record came for `patience_s`: it went away, or the log ends before `through`.
    """
    topics = Topics(settings)
    ends = {
        TopicPartition(topics.name(topic), int(partition)): end
        for topic, by_partition in through.items()
        for partition, end in by_partition.items()
        if end > 0
    }
    if not ends:
        return
    try:
        with _LoopThread() as loop:
            consumer = loop.run(_connected(settings))
            try:
                left = loop.run(_at_the_beginning(consumer, ends))
                heard_at = time.monotonic()
                while left:
                    polled, done = loop.run(_poll(consumer, ends, left))
                    left -= done
                    for topic in {partition.topic for partition in polled}:
                        yield topics.plain(topic), _records(topic, polled)
                    if polled:
                        heard_at = time.monotonic()
                    elif time.monotonic() - heard_at > patience_s:
                        raise _stalled(settings, len(left), patience_s)
            finally:
                loop.run(_stop(consumer))
    except (KafkaError, OSError) as exc:
        raise unreachable(settings, exc) from exc


async def _connected(settings: Settings) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.split(","),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
    except BaseException:
        await _stop(consumer)
        raise
    return consumer


async def _stop(consumer: AIOKafkaConsumer) -> None:
    # With a broker away, aiokafka lets its own cancelling of a fetch out of `stop`.
    with suppress(asyncio.CancelledError):
        await consumer.stop()


async def _at_the_beginning(consumer: AIOKafkaConsumer, ends: Ends) -> set[TopicPartition]:
    """Go to where the log begins; return the partitions with something before their end."""
    consumer.assign(list(ends))
    beginnings = await consumer.beginning_offsets(list(ends))
    for partition, beginning in beginnings.items():
        consumer.seek(partition, beginning)
    left = {partition for partition, end in ends.items() if end > beginnings[partition]}
    consumer.pause(*(ends.keys() - left))
    return left


async def _poll(
    consumer: AIOKafkaConsumer, ends: Ends, left: set[TopicPartition]
) -> tuple[Polled, set[TopicPartition]]:
    """Return what has arrived before the ends, and of the partitions left those now read."""
    polled: Polled = await consumer.getmany(timeout_ms=_POLL_MS)
    done = {
        partition for partition in left if await consumer.position(partition) >= ends[partition]
    }
    consumer.pause(*done)
    for partition in done & polled.keys():
        polled[partition] = [each for each in polled[partition] if each.offset < ends[partition]]
    return polled, done


def _records(topic: str, polled: Polled) -> Records:
    """Return what was polled of the topic."""
    records = [
        record for partition, some in polled.items() if partition.topic == topic for record in some
    ]
    count = len(records)
    return Records(
        values=[record.value for record in records],
        partition=np.fromiter((record.partition for record in records), np.int32, count),
        offset=np.fromiter((record.offset for record in records), np.int64, count),
        time=np.fromiter((record.timestamp for record in records), np.int64, count),
    )


def unreachable(settings: Settings, exc: BaseException) -> HeadraceError:
    """Return the error of a Kafka that cannot be read."""
    return HeadraceError(
        f"Kafka at {settings.kafka} cannot be read: {exc!r}. "
        "Is it running, and is HEADRACE_KAFKA right?"
    )


def _stalled(settings: Settings, partitions: int, patience_s: float) -> HeadraceError:
    return HeadraceError(
        f"Kafka at {settings.kafka} has sent nothing for {patience_s:.0f} s; "
        f"{partitions} partitions are not read to their end. Is the broker well?"
    )


class _LoopThread:
    """An event loop in a thread of its own, for a caller that blocks."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> _LoopThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(_cancel_the_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what the coroutine returns, once it does."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


async def _cancel_the_others() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        await cancel_until_done(task)
