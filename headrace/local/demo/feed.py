"""Sends ratings to Kafka as any producer does, as fast as it will go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from headrace.errors import HeadraceError
from headrace.events import Rating
from headrace.kafka_clients import client_options
from headrace.settings import Settings
from headrace.topics import Topics

_LINGER_MS = 10
_BATCH_BYTES = 128 * 1024
_LET_OTHERS_RUN = 200
"""Events between two turns of the loop, on which the display lives too."""


async def feed(
    ratings: Iterable[Rating], settings: Settings, acknowledged: Callable[[int], None]
) -> None:
    """Send the ratings to their topic, in order, and wait until Kafka has acknowledged each.

    `acknowledged` is told how many more are safe. Raises `HeadraceError` when one is refused.
    """
    topic = Topics(settings).name("ratings")
    producer = AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        linger_ms=_LINGER_MS,
        max_batch_size=_BATCH_BYTES,
    )
    failed: list[BaseException] = []

    def settle(future: asyncio.Future[object]) -> None:
        if future.cancelled():
            return
        if (exc := future.exception()) is not None:
            failed.append(exc)
        else:
            acknowledged(1)

    try:
        await producer.start()
        try:
            for count, rating in enumerate(ratings, start=1):
                # One user, one partition: a user's events keep their order.
                sending = await producer.send(
                    topic, value=msgspec.json.encode(rating), key=rating.user_id.encode()
                )
                sending.add_done_callback(settle)
                if count % _LET_OTHERS_RUN == 0:
                    await asyncio.sleep(0)
            await producer.flush()
        finally:
            await producer.stop()
    except KafkaError as exc:
        raise HeadraceError(f"Kafka at {settings.kafka} takes no events: {exc!r}.") from exc
    if failed:
        raise HeadraceError(
            f"Kafka at {settings.kafka} refused {len(failed)} of the ratings: {failed[0]!r}."
        ) from failed[0]
