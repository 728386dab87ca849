"""The topic of erasures: all of it at once for who starts, then on and on for who runs.

No consumer group is needed: whoever must know the erasures must know all of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from headrace.cancellation import cancel_until_done
from headrace.erasures import Erasure, Erasures, decode_erasure, parse_erasure
from headrace.errors import InvalidErasure, KafkaUnavailable
from headrace.kafka_clients import client_options
from headrace.replay import replay
from headrace.settings import Settings
from headrace.topics import BOOTSTRAP_MS, ERASURES, Topics

if TYPE_CHECKING:
    from kafka import KafkaConsumer

logger = logging.getLogger(__name__)

_PATIENCE_S = 60.0
"""Longest that a broker may send nothing while there is more to read."""
_WAIT_MS = 500
_AGAIN_S = 1.0
"""Pause before a broker that was away is tried again."""
_METADATA_MS = 10_000
"""How soon a partition is noticed that the topic did not have."""

CarryOut = Callable[[Sequence[Erasure]], Awaitable[None]]
"""Is told of all erasures that were read together, when the log knows them."""


class ErasureLog:
    """What has been read of the topic: the erasures, and how far each partition was read."""

    def __init__(self, erasures: Erasures | None = None) -> None:
        """`erasures` were known before."""
        self.erasures = Erasures() if erasures is None else erasures
        self.positions: dict[int, int] = {}
        """By partition, the offset to read next."""
        self._newest: dict[tuple[str, int], int] = {}
        """By user and partition, the offset of the newest record that was read."""

    def beyond(self, done: Mapping[int, int]) -> list[Erasure]:
        """Return the erasures of users with a record at these offsets, by partition, or after."""
        users = {
            user_id
            for (user_id, partition), offset in self._newest.items()
            if offset >= done.get(partition, 0)
        }
        of_user = self.erasures.by_user
        return [of_user[user_id] for user_id in users if user_id in of_user]

    def take(self, record: Any) -> Erasure | None:
        """Take a record of either Kafka client's; return the erasure, if it is one.

        A record without a value takes the user's erasure back. One that is wrong in itself is told
        to the log and passed over.
        """
        self.positions[record.partition] = record.offset + 1
        if record.value is None:
            self.erasures.drop((record.key or b"").decode(errors="replace"))
            return None
        try:
            erasure = parse_erasure(record.key, record.value)
        except InvalidErasure as error:
            logger.error(
                "%s/%d, offset %d is no erasure and is passed over: %s",
                record.topic,
                record.partition,
                record.offset,
                error,
            )
            return None
        self.erasures.add(erasure)
        self._newest[erasure.user_id, record.partition] = record.offset
        return erasure


def read_erasures(settings: Settings) -> Erasures:
    """Return the erasures up to now, those too that only the archive still has. Blocks.

    Who reads archived events must know them: a topic that was made anew has forgotten its erasures
    with its events, the archive has kept both. Raises `HeadraceError` when Kafka or the archive
    cannot be read.
    """
    return read_whole_erasure_log(settings).erasures


def read_whole_erasure_log(settings: Settings) -> ErasureLog:
    """Return the topic as it is up to now, after the erasures that are archived; see above.

    Blocks. Raises what `read_erasures` raises.
    """
    return read_erasure_log(settings, archived=_archived(settings))


@asynccontextmanager
async def known_erasures(settings: Settings) -> AsyncIterator[Erasures]:
    """Yield the erasures that `read_erasures` returns, to which those join that come meanwhile.

    Raises what `read_erasures` raises; a broker that goes away meanwhile is waited for.
    """
    log = await asyncio.to_thread(read_whole_erasure_log, settings)
    following = asyncio.create_task(follow_erasures(settings, log, _take_note))
    try:
        yield log.erasures
        if following.done():
            following.result()
    finally:
        await cancel_until_done(following)


async def _take_note(_: Sequence[Erasure]) -> None:
    """Do nothing more: that the log has taken the erasures is all."""


def _archived(settings: Settings) -> Iterator[Erasure]:
    """Yield what is archived of the topic, from before it was made anew, too, oldest first."""
    for batch in replay(settings, {}, topics=(ERASURES,), topic_ids={}):
        for value in filter(None, batch.records.values):
            with suppress(InvalidErasure):
                yield decode_erasure(value)


def read_erasure_log(
    settings: Settings,
    partitions: int | None = None,
    *,
    archived: Iterable[Erasure] = (),
    patience_s: float = _PATIENCE_S,
) -> ErasureLog:
    """Return the topic as it is up to now, after the erasures that are archived. Blocks.


    `partitions`: how many it has; who knows says so, for a broker that has just begun may not.
    Raises `HeadraceError` when Kafka cannot be reached, or has sent nothing for `patience_s`.
    """
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError as KafkaPythonError

    try:
        consumer = KafkaConsumer(
            **client_options(settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            bootstrap_timeout_ms=BOOTSTRAP_MS,
        )
        try:
            log = ErasureLog(Erasures(archived))
            name = Topics(settings).name(ERASURES)
            numbers = (
                consumer.partitions_for_topic(name) or ()
                if partitions is None
                else range(partitions)
            )
            _read_to_end(log, consumer, name, numbers, patience_s)
            return log
        finally:
            consumer.close()
    except (KafkaPythonError, OSError, ValueError, TimeoutError) as exc:
        raise KafkaUnavailable(
            f"Kafka at {settings.kafka} cannot tell who was erased: {exc!r}. "
            "Is it running, and is HEADRACE_KAFKA right?"
        ) from exc


def _read_to_end(
    log: ErasureLog, consumer: KafkaConsumer, name: str, numbers: Iterable[int], patience_s: float
) -> None:
    import kafka

    partitions = [kafka.TopicPartition(name, number) for number in sorted(numbers)]
    log.positions = {partition.partition: 0 for partition in partitions}
    # The embedded broker counts the newest batch as one record: what is fetched tells the end.
    listed = consumer.end_offsets(partitions) if partitions else {}
    left = {partition for partition, end in listed.items() if end > 0}
    consumer.assign(sorted(left))
    if left:
        consumer.seek_to_beginning()
    heard_at = time.monotonic()
    while left:
        polled = consumer.poll(timeout_ms=100)
        for records in polled.values():
            for record in records:
                log.take(record)
        done = {each for each in left if consumer.position(each) == consumer.highwater(each)}
        for partition in done:
            # Compaction leaves gaps, at the end too.
            log.positions[partition.partition] = consumer.position(partition)
        left -= done
        if polled or done:
            heard_at = time.monotonic()
        elif time.monotonic() - heard_at > patience_s:
            raise TimeoutError(f"{name} has sent nothing for {patience_s:.0f} s")


async def follow_erasures(settings: Settings, log: ErasureLog, carry_out: CarryOut) -> None:
    """Read on, and carry erasures out once they are known, until cancelled.

    A broker that is away is waited for. Raises what `carry_out` raises.
    """
    while True:
        try:
            await _follow(settings, log, carry_out)
        except (KafkaError, OSError) as exc:
            logger.warning("erasures cannot be read: %r; again in %.0f s", exc, _AGAIN_S)
            await asyncio.sleep(_AGAIN_S)


async def _follow(settings: Settings, log: ErasureLog, carry_out: CarryOut) -> None:
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        metadata_max_age_ms=_METADATA_MS,
    )
    name = Topics(settings).name(ERASURES)
    try:
        await consumer.start()
        while True:
            _assign(consumer, name, log)
            polled = await consumer.getmany(timeout_ms=_WAIT_MS)
            taken = [log.take(record) for records in polled.values() for record in records]
            if erasures := [erasure for erasure in taken if erasure is not None]:
                await carry_out(erasures)
    finally:
        # With a broker away, aiokafka lets its own cancelling of a fetch out of `stop`.
        with suppress(asyncio.CancelledError):
            await consumer.stop()


def _assign(consumer: AIOKafkaConsumer, name: str, log: ErasureLog) -> None:
    """Read all partitions that the topic has by now, each from where it was left."""
    numbers = log.positions.keys() | (consumer.partitions_for_topic(name) or set())
    partitions = {TopicPartition(name, number) for number in numbers}
    if partitions and partitions != consumer.assignment():
        consumer.assign(sorted(partitions))
        for partition in partitions:
            consumer.seek(partition, log.positions.setdefault(partition.partition, 0))
