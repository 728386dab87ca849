"""Retrain events become tasks: each once, whoever reads the topic how often."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from redis.asyncio import Redis

from headrace.dead_letters import DeadLetters, Record
from headrace.errors import InvalidEvent, ModelDeleted
from headrace.kafka_clients import client_options
from headrace.producer import Producer
from headrace.settings import Settings
from headrace.store import text
from headrace.task_store import AnotherWaits, TaskStore
from headrace.topics import RETRAIN, TopicId, Topics, ensure_topics
from headrace.training_requests import TrainingRequest, check_request, parse_request
from models.training.schedule import ClockTrigger

logger = logging.getLogger(__name__)

_WAIT_MS = 1_000
_LEFT_OUT = (
    "its model is busy, and a task for another training of it waits already; when that one has "
    "run (`headrace tasks`), send this one again: `headrace dead-letters send ID`."
)


async def ask_or_wait(tasks: TaskStore, request: TrainingRequest, *, now: float) -> bool:
    """Queue a task for a request; while its model is busy the task is held back.

    One that comes while another of its model is held back already is left out: the training that
    waits reads the log as far as it goes when it starts. Returns False where that one asks for
    another training, so that nothing stands for this one. Raises `InvalidEvent`.
    """
    key = request.idempotency_key
    try:
        task = await tasks.create(request, uuid.uuid4().hex, now=now, waits=True)
    except ModelDeleted as exc:
        logger.warning("the retrain event %r is left out: %s", key, exc)
        return True
    except AnotherWaits as exc:
        task = exc.task
        kind = request.kind or task.kind
        if _asked(task.request) != _asked(msgspec.structs.replace(request, kind=kind)):
            return False
    logger.info("task %s stands for the retrain event %r: %s", task.id, key, task.step)
    return True


async def ask_by_clock(tasks: TaskStore, trigger: ClockTrigger, *, now: float) -> None:
    """Ask for what is due by the clock; while a task for something else waits, ask again later."""
    due = await trigger.due(now)
    if due is None:
        return
    request, tick = due
    try:
        stands = await ask_or_wait(tasks, request, now=now)
    except InvalidEvent as exc:
        logger.error(
            "the clock cannot have model %s trained: %s; mend `retrain.request`, or give the model "
            "a request of its own, `models.%s.request`",
            *(request.model_id, exc, request.model_id),
        )
        stands = True
    if stands:
        await trigger.note(tick)


def _asked(request: TrainingRequest) -> TrainingRequest:
    """Return what a request asks for, whoever asks, and why."""
    return msgspec.structs.replace(
        request, model_id=None, idempotency_key=None, reason="", requested_by=""
    )


class RetrainRequests:
    """Reads the `retrain` topic on, from where any trainer last was, and queues tasks."""

    def __init__(
        self,
        settings: Settings,
        redis: Redis,
        tasks: TaskStore,
        producer: Producer,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._tasks = tasks
        self._dead_letters = DeadLetters(producer, settings)
        self._clock = clock
        self._topic = Topics(settings).name(RETRAIN)
        self._marks_key = settings.key("retrain", "marks")

    async def follow(self) -> None:
        """Queue a task for every retrain event, until cancelled.

        No consumer group is needed, which would take seconds to join: reading an event twice
        queues one task. Raises `KafkaError` or `RedisError`.
        """
        topic = (await asyncio.to_thread(ensure_topics, self._settings))[self._topic]
        consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            await self._assign(consumer, topic)
            while True:
                polled = await consumer.getmany(timeout_ms=_WAIT_MS)
                for partition, messages in polled.items():
                    for message in messages:
                        await self._queue(message, topic)
                    mark = f"{topic.id}:{messages[-1].offset}"
                    await self._redis.hset(self._marks_key, str(partition.partition), mark)
        finally:
            await consumer.stop()

    async def _assign(self, consumer: AIOKafkaConsumer, topic: TopicId) -> None:
        known = await self._redis.hgetall(self._marks_key)
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        consumer.assign(partitions)
        for partition in partitions:
            mark = text(known.get(str(partition.partition).encode(), b""))
            marked_id, _, offset = mark.rpartition(":")
            if marked_id == topic.id:
                consumer.seek(partition, int(offset) + 1)
            else:
                await consumer.seek_to_beginning(partition)

    async def _queue(self, message: ConsumerRecord, topic: TopicId) -> None:
        try:
            request = _of_key(parse_request(message.value), message.key)
            check_request(request, self._settings)
            if request.idempotency_key is None:
                # It may be read twice.
                place = f"retrain-{topic.id}-{message.partition}-{message.offset}"
                request = msgspec.structs.replace(request, idempotency_key=place)
            if not await ask_or_wait(self._tasks, request, now=self._clock()):
                raise InvalidEvent("", _LEFT_OUT)
        except InvalidEvent as error:
            logger.warning("a retrain event goes to the dead letters: %s", error)
            record = Record(
                message.topic,
                message.partition,
                message.offset,
                message.timestamp / 1000,
                message.key,
                message.value,
            )
            await self._dead_letters.send([(record, error)])


def _of_key(request: TrainingRequest, key: bytes | None) -> TrainingRequest:
    """Return the request for the model that the record's key names. Raises `InvalidEvent`."""
    if request.schema is not None:
        raise InvalidEvent("schema", "is how the rows of a file are read, and a message has none")
    if not key:
        return request
    model_id = key.decode(errors="replace")
    if request.model_id not in (None, model_id):
        raise InvalidEvent("model_id", f"is {request.model_id!r}, the record's key {model_id!r}")
    return msgspec.structs.replace(request, model_id=model_id)
