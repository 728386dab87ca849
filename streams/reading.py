"""How a worker reads: Faust set up for at least once, and records taken a batch at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import faust

from headrace.dead_letters import Record
from headrace.kafka_clients import tls_context
from headrace.settings import Settings
from streams.failure import begin, finish, let_end
from streams.fetching import Starts, consumer_of

Agent = Callable[[Sequence[Record]], Awaitable[None]]
"""What is done with a batch; after that it may be committed."""
_COMMIT_S = 0.5
_FETCH_BYTES = 128 << 10
"""Of a partition in one fetch: some hundred small events, so that few are held in memory while
others are applied. A larger record comes whole, alone."""
_DECODED = 1_000
"""Records that are taken from fetches at once, and that may wait for an agent, unless its batches
are larger. A record decoded is some twenty objects of Python; the rest of a fetch stays as bytes.
What is in hand at the most is what a worker holds for good: memory that Python has had for small
objects seldom becomes free as a whole."""
_HAND_OVER_S = 0.01
"""A batch waits no longer for what is being handed over behind its first records."""


def reading_app(settings: Settings, starts: Starts) -> faust.App:
    """Return a Faust app that reads as a worker's does, from `starts` on, and has no agents yet."""
    app = faust.App(**faust_options(settings))
    app.transport.Consumer = consumer_of(settings.worker.fetch_wait_ms, starts)
    return app


def faust_options(settings: Settings) -> dict[str, Any]:
    """Return how Faust is set up: at least once, one batch at a time, nothing of its own kept.

    What makes an event count once is its offset in Redis, so Faust needs neither tables nor
    transactions; its web server, open on all addresses by default, stays off.
    """
    session_timeout = settings.worker.session_timeout_s
    decoded = max(settings.worker.batch_size, _DECODED)
    return {
        "id": settings.group,
        "broker": [f"kafka://{address}" for address in settings.kafka.split(",")],
        "broker_credentials": _credentials(settings),
        "store": "memory://",
        "autodiscover": False,
        "web_enabled": False,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "processing_guarantee": "at_least_once",
        "consumer_auto_offset_reset": "earliest",
        "broker_commit_interval": _COMMIT_S,
        "consumer_max_fetch_size": _FETCH_BYTES,
        "broker_max_poll_records": decoded,
        "stream_buffer_maxsize": decoded,
        "broker_session_timeout": session_timeout,
        "broker_heartbeat_interval": session_timeout / 4,
        "stream_wait_empty": False,
        # Faust makes this folder although nothing of ours is put there.
        "datadir": Path(tempfile.gettempdir()) / f"headrace-faust-{os.getuid()}",
        "loghandlers": [],
    }


def _credentials(settings: Settings) -> Any:
    """Return what Faust shows to brokers, None where they ask for nothing."""
    security = settings.kafka_security
    context = tls_context(settings) if security.uses_tls else None
    if security.uses_sasl:
        return faust.SASLCredentials(
            username=security.sasl_username,
            password=security.sasl_password,
            mechanism=security.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


def raw_topic(app: faust.App, *names: str) -> Any:
    """Return Faust's channel of these topics' bytes; a record without a value is delivered too."""
    return app.topic(
        *names,
        key_type=bytes,
        key_serializer="raw",
        value_type=bytes,
        value_serializer="raw",
        allow_empty=True,
    )


def batches(agent: Agent, size: int, *, in_flight: int = 1) -> Any:
    """Return the agent as Faust wants it: a function of a stream; at most `size` records at once.

    While batches are applied the next one is read, so that neither waits for the other; it begins
    when fewer than `in_flight` are begun and not done. It is what has arrived by then, so an event
    never waits for others to come. Faust's own `take_events` waits its time out whenever a batch is
    not full, and acknowledges a batch even when its work was broken off.
    """

    async def carry_out(events: Sequence[Any]) -> None:
        await agent([_record(event.message) for event in events])
        for event in events:
            event.ack()

    async def consume(stream: Any) -> None:
        await stream.maybe_start()
        works = deque([begin(asyncio.sleep(0))] * in_flight)
        try:
            # Faust has a channel raise it to end who reads there, now or when they come next.
            with contextlib.suppress(StopAsyncIteration):
                while not stream.should_stop:
                    first = await stream.channel.get()
                    await finish(works[0])
                    if stream.channel.queue.qsize() + 1 < size:
                        await _handed_over(stream.app.consumer)
                    if events := _with_what_arrived(first, stream, size):
                        works.popleft()
                        works.append(begin(carry_out(events)))
        finally:
            await asyncio.gather(*map(let_end, works))

    return consume


async def _handed_over(consumer: Any) -> None:
    """Wait for the rest of a fetch that is being handed over, but not for long.

    A batch costs some twenty calls of Redis whatever it holds: it is not begun with a few of many.
    """
    if not consumer.handed_over.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(consumer.handed_over.wait(), _HAND_OVER_S)


def _with_what_arrived(first: Any, stream: Any, size: int) -> list[Any]:
    """Return an event of a stream's channel and those behind it there, `size` at most.

    Faust's own loop over a stream goes through the event loop for each event. As it does, what was
    fetched before partitions were assigned anew is left out: whoever has them now gets it.
    """
    app, channel = stream.app, stream.channel
    events = [first]
    while len(events) < size and not channel.empty():
        events.append(channel.queue.get_nowait())
    if not app.flow_control.is_active():
        return []
    ours = [each for each in events if each.message.generation_id == app.consumer_generation_id]
    for each in ours:
        each.message.tracked = True
        app.consumer.track_message(each.message)
    return ours


def _record(message: Any) -> Record:
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.timestamp,
        message.key,
        message.value,
        message.headers or (),
    )
