"""Retrain events that come while their model is busy: one waits, and none is lost unsaid."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import msgspec
from kafka_tools import read_topic, send_raw
from parts import eventually
from redis.asyncio import Redis

from headrace.model_settings import ModelSettings
from headrace.producer import Producer
from headrace.settings import RetrainSettings, Settings
from headrace.task_store import TaskStore
from headrace.topics import DEAD_LETTERS, ensure_topics
from headrace.training_requests import TrainingRequest
from models.training.requests import RetrainRequests, ask_by_clock, ask_or_wait
from models.training.schedule import ClockTrigger

NOW = 1_704_060_026.5


async def test_what_asks_for_another_training_than_the_one_that_waits_is_a_dead_letter(
    redis: Redis, settings: Settings
) -> None:
    ensure_topics(settings)
    tasks, producer = TaskStore(redis, settings), Producer(settings)
    running = await tasks.create(TrainingRequest(), "a" * 32, now=NOW)
    waits = b'{"idempotency_key": "first", "epochs": 5}'
    like_it = b'{"idempotency_key": "second", "model_id": "default", "epochs": 5, "reason": "r"}'
    other = b'{"idempotency_key": "third", "epochs": 7}'
    # One key, so that they stay in order.
    send_raw(settings, "retrain", [(b"default", each) for each in (waits, like_it, other)])
    requests = RetrainRequests(settings, redis, tasks, producer, lambda: NOW)
    following = asyncio.create_task(requests.follow())

    async def told() -> bool:
        assert not following.done()
        return bool(await asyncio.to_thread(read_topic, settings, DEAD_LETTERS))

    await eventually(told, "there is a dead letter")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    [letter] = await asyncio.to_thread(read_topic, settings, DEAD_LETTERS)
    assert letter.value == other
    assert b"a task for another training of it waits already" in dict(letter.headers)["reason"]
    # Another trainer reads them, too: what waits stands for what asked for it.
    first = TrainingRequest(idempotency_key="first", epochs=5)
    assert await ask_or_wait(tasks, first, now=NOW)
    await tasks.cancel(running.id, now=NOW)
    [task] = await tasks.queue_held(now=NOW)
    assert task.params["epochs"] == 5
    await producer.close()


async def test_a_hundred_triggers_of_five_workers_with_one_key_are_one_task(
    redis: Redis, settings: Settings
) -> None:
    ensure_topics(settings)
    trigger = (b"default", b'{"idempotency_key": "count-default-100000", "requested_by": "worker"}')
    with ProcessPoolExecutor(5, get_context("spawn")) as workers:
        sent = [workers.submit(send_raw, settings, "retrain", [trigger] * 20) for _ in range(5)]
        for each in sent:
            await asyncio.wrap_future(each)
    assert len(await asyncio.to_thread(read_topic, settings, "retrain")) == 100
    # Two trainers listen, and each reads all of them.
    tasks, producer = TaskStore(redis, settings), Producer(settings)
    others = msgspec.structs.replace(settings, namespace=f"{settings.namespace}-marks")
    listening = [
        asyncio.create_task(RetrainRequests(own, redis, tasks, producer, lambda: NOW).follow())
        for own in (settings, others)
    ]

    async def all_are_read() -> bool:
        assert not any(each.done() for each in listening)
        marks = [await redis.hvals(own.key("retrain", "marks")) for own in (settings, others)]
        return all(any(mark.endswith(b":99") for mark in of_one) for of_one in marks)

    await eventually(all_are_read, "both have read the hundred")
    for each in listening:
        each.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    [task] = await tasks.newest()
    assert (task.status, task.requested_by) == ("QUEUED", "worker")
    await producer.close()


async def test_the_clock_asks_again_while_another_training_waits(
    redis: Redis, settings: Settings
) -> None:
    retrain = RetrainSettings(every="1h", request={"mode": "full"})
    settings = msgspec.structs.replace(settings, retrain=retrain)
    tasks, trigger = TaskStore(redis, settings), ClockTrigger(redis, settings)
    assert await trigger.due(3_600.0) is None
    running = await tasks.create(TrainingRequest(), "a" * 32, now=NOW)
    other = TrainingRequest(from_="2026-11-01", idempotency_key="other")
    assert await ask_or_wait(tasks, other, now=NOW)
    await ask_by_clock(tasks, trigger, now=7_200.0)
    assert {task.requested_by for task in await tasks.newest()} == {""}
    # The other one is on its way; now the clock's is held back.
    await tasks.cancel(running.id, now=NOW)
    [other_task] = await tasks.queue_held(now=NOW)
    await ask_by_clock(tasks, trigger, now=7_201.0)
    [by_clock] = [task for task in await tasks.newest() if task.requested_by == "clock"]
    assert by_clock.params == {"mode": "full"}
    assert await trigger.due(7_202.0) is None
    # What could never be had is noted, and said in the log alone.
    await tasks.cancel(by_clock.id, now=NOW)
    await tasks.cancel(other_task.id, now=NOW)
    await redis.hset(settings.key("{tasks}", "kinds"), "default", "ranking")
    with_lists = msgspec.structs.replace(retrain, request={"with_feedback": True})
    trigger = ClockTrigger(redis, msgspec.structs.replace(settings, retrain=with_lists))
    await ask_by_clock(tasks, trigger, now=10_800.0)
    assert await tasks.open_of_model("default") == []
    assert await trigger.due(10_801.0) is None


async def test_the_records_key_names_the_model_and_a_message_has_no_file(
    redis: Redis, settings: Settings
) -> None:
    settings = msgspec.structs.replace(settings, models={"books": ModelSettings()})
    ensure_topics(settings)
    tasks, producer = TaskStore(redis, settings), Producer(settings)
    wrong = [
        (b"books", b'{"model_id": "default"}', b"model_id: is 'default', the record's key 'books'"),
        (b"Not an id", b"{}", b"model_id"),
        (b"books", b'{"schema": {"type": "click"}}', b"schema: is how the rows of a file are read"),
    ]
    send_raw(settings, "retrain", [(b"books", b'{"epochs": 3}')])
    for key, value, _ in wrong:
        send_raw(settings, "retrain", [(key, value)])
    requests = RetrainRequests(settings, redis, tasks, producer, lambda: NOW)
    following = asyncio.create_task(requests.follow())

    async def told() -> bool:
        assert not following.done()
        return len(await asyncio.to_thread(read_topic, settings, DEAD_LETTERS)) == len(wrong)

    await eventually(told, "there are dead letters")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    letters = await asyncio.to_thread(read_topic, settings, DEAD_LETTERS)
    reasons = {letter.value: dict(letter.headers)["reason"] for letter in letters}
    for _, value, why in wrong:
        assert why in reasons[value]
    [task] = await tasks.newest(limit=10)
    assert (task.model_id, task.params["epochs"]) == ("books", 3)
    await producer.close()
