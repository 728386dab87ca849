"""Reading spans of partitions from Kafka, as fast as it gives them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Generator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from headrace.cancellation import cancel_until_done
from headrace.errors import HeadraceError, KafkaUnavailable
from headrace.kafka_clients import client_options
from headrace.settings import Settings

logger = logging.getLogger(__name__)

_POLL_MS = 500

T = TypeVar("T")
Spans = Mapping[TopicPartition, range]
"""By partition, the offsets to read."""
Polled = dict[TopicPartition, list[Any]]
"""aiokafka's records by partition."""


def read_spans(
    settings: Settings, spans: Spans, *, complete: bool = False, patience_s: float = 60.0
) -> Generator[Polled, None, None]:
    """Yield records of these spans until all were yielded, those of a partition in order.

    Partitions are assigned, so no consumer group is joined or disturbed. aiokafka reads, whose
    parser is compiled, in a thread of its own: it fetches while the caller works. What Kafka has
    dropped of a span is passed over, or, when it should be `complete`, an error.

    Blocks; close it when it is left before its end. Raises `KafkaUnavailable` when it cannot
    be reached, or no record came for `patience_s`: it went away, or the log ends before the span.
    """
    spans = {partition: span for partition, span in spans.items() if span}
    if not spans:
        return
    try:
        with _LoopThread() as loop:
            consumer = loop.run(_connected(settings, "none" if complete else "earliest"))
            try:
                left = loop.run(_at_the_start(consumer, spans, complete))
                heard_at = time.monotonic()
                while left:
                    polled, done = loop.run(_poll(consumer, spans, left))
                    left -= done
                    if polled:
                        yield polled
                        heard_at = time.monotonic()
                    elif time.monotonic() - heard_at > patience_s:
                        raise _stalled(settings, len(left), patience_s)
            finally:
                loop.run(_stop(consumer))
    except OffsetOutOfRangeError as exc:
        raise _dropped(exc) from exc
    except (KafkaError, OSError) as exc:
        raise unreachable(settings, exc) from exc


async def _connected(settings: Settings, reset: str) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        enable_auto_commit=False,
        auto_offset_reset=reset,
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


async def _at_the_start(
    consumer: AIOKafkaConsumer, spans: Spans, complete: bool
) -> set[TopicPartition]:
    """Go to where the spans begin; return the partitions that hold something of theirs."""
    consumer.assign(list(spans))
    beginnings = await consumer.beginning_offsets(list(spans))
    for partition, span in spans.items():
        beginning = beginnings[partition]
        if complete and beginning > span.start:
            raise OffsetOutOfRangeError({partition: span.start})
        if beginning > span.start > 0:
            logger.warning(
                "%s/%d: offsets %d to %d are no longer in Kafka, and are passed over",
                partition.topic,
                partition.partition,
                span.start,
                min(beginning, span.stop),
            )
        consumer.seek(partition, max(span.start, beginning))
    left = {partition for partition, span in spans.items() if span.stop > beginnings[partition]}
    consumer.pause(*(spans.keys() - left))
    return left


async def _poll(
    consumer: AIOKafkaConsumer, spans: Spans, left: set[TopicPartition]
) -> tuple[Polled, set[TopicPartition]]:
    """Return what has arrived of the spans, and of the partitions left those now read."""
    polled: Polled = await consumer.getmany(timeout_ms=_POLL_MS)
    done = {
        partition
        for partition in left
        if await consumer.position(partition) >= spans[partition].stop
    }
    consumer.pause(*done)
    for partition in done & polled.keys():
        stop = spans[partition].stop
        polled[partition] = [each for each in polled[partition] if each.offset < stop]
    return polled, done


def unreachable(settings: Settings, exc: BaseException) -> KafkaUnavailable:
    """Return the error of a Kafka that cannot be read."""
    return KafkaUnavailable(
        f"Kafka at {settings.kafka} cannot be read: {exc!r}. "
        "Is it running, and is HEADRACE_KAFKA right?"
    )


def _stalled(settings: Settings, partitions: int, patience_s: float) -> KafkaUnavailable:
    return KafkaUnavailable(
        f"Kafka at {settings.kafka} has sent nothing for {patience_s:.0f} s; "
        f"{partitions} partitions are not read to their end. Is the broker well?"
    )


def _dropped(exc: OffsetOutOfRangeError) -> HeadraceError:
    return HeadraceError(
        f"Kafka has dropped records just as they were to be read ({exc}): its retention is too "
        "short for how seldom they are read. Run it again; what is gone will be told."
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
