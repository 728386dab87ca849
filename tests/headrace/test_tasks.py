"""Tasks: each request one task, one training of a model at a time, none lost with its trainer."""

from __future__ import annotations

import asyncio
import json
from itertools import count

import msgspec
import pytest
from redis.asyncio import Redis

from headrace.errors import InvalidEvent, TaskNotFound
from headrace.settings import Settings, TrainerSettings
from headrace.tasks import RetrainRequest, Task, TaskStore, parse_request

NOW = 1_704_060_026.0
_ids = count()


@pytest.fixture
def store(redis: Redis, settings: Settings) -> TaskStore:
    return TaskStore(redis, settings)


def short_lease(redis: Redis, settings: Settings) -> TaskStore:
    trainer = TrainerSettings(lease_s=0.05)
    return TaskStore(redis, msgspec.structs.replace(settings, trainer=trainer))


async def ask(store: TaskStore, key: str, model_id: str = "default", now: float = NOW) -> Task:
    request = RetrainRequest(
        idempotency_key=key, model_id=model_id, reason="because", requested_by="me"
    )
    return await store.create(request, f"task-{next(_ids)}", now=now)


async def claimed(store: TaskStore, trainer: str = "t1", now: float = NOW) -> Task:
    task = await store.claim(trainer, now=now)
    assert task is not None
    return task


async def claimed_in_time(store: TaskStore, trainer: str) -> Task:
    """Claim until the lease of whoever held it has run out; the limit is against hanging."""
    for _ in range(200):
        if (task := await store.claim(trainer, now=NOW + 9)) is not None:
            return task
        await asyncio.sleep(0.02)
    raise AssertionError("the lease never runs out")


async def test_a_new_task_says_what_was_asked(store: TaskStore) -> None:
    task = await ask(store, "k")
    assert (task.status, task.step, task.progress) == ("QUEUED", "queued", 0.0)
    assert (task.reason, task.requested_by, task.created_at) == ("because", "me", NOW)
    assert await store.get(task.id) == task


async def test_the_same_key_always_gives_the_same_task(store: TaskStore) -> None:
    task = await ask(store, "k")
    assert (await ask(store, "k", now=NOW + 1)).id == task.id
    running = await claimed(store)
    assert await ask(store, "k") == running
    await store.finish(msgspec.structs.replace(running, status="SUCCEEDED"), "t1")
    assert (await ask(store, "k")).status == "SUCCEEDED"
    assert await store.claim("t1", now=NOW) is None
    assert len(await store.newest()) == 1


async def test_another_request_joins_a_queued_task_and_keeps_to_it(store: TaskStore) -> None:
    task = await ask(store, "a")
    assert (await ask(store, "b")).id == task.id
    running = await claimed(store)
    assert (await ask(store, "b")).id == running.id == task.id


async def test_while_one_runs_one_more_is_queued(store: TaskStore) -> None:
    await ask(store, "a")
    running = await claimed(store)
    second = await ask(store, "b")
    assert second.id != running.id
    assert (await ask(store, "c")).id == second.id
    assert await store.claim("t2", now=NOW) is None
    await store.finish(msgspec.structs.replace(running, status="FAILED"), "t1")
    assert (await claimed(store, "t2")).id == second.id


async def test_models_do_not_wait_for_one_another(store: TaskStore) -> None:
    tasks = [await ask(store, "a", "one"), await ask(store, "b", "two", now=NOW + 1)]
    assert tasks[0].id != tasks[1].id
    assert [(await claimed(store, "t1")).id, (await claimed(store, "t2")).id] == [
        task.id for task in tasks
    ]


async def test_a_claimed_task_runs(store: TaskStore) -> None:
    await ask(store, "a")
    task = await claimed(store, now=NOW + 5)
    assert (task.status, task.started_at, task.updated_at) == ("RUNNING", NOW + 5, NOW + 5)
    assert await store.get(task.id) == task


async def test_only_the_holder_renews(redis: Redis, settings: Settings) -> None:
    store = TaskStore(redis, settings)
    await ask(store, "a")
    task = await claimed(store)
    assert await store.renew(task, "t1")
    assert not await store.renew(task, "t2")
    await store.release(task, "t2")
    assert await store.renew(task, "t1")
    await store.release(task, "t1")
    # It ran out, and nobody else has it: who asks first holds it again.
    assert await store.renew(task, "t1")
    assert not await store.renew(task, "t2")


async def test_a_dead_trainers_task_is_taken_again_from_its_start(
    redis: Redis, settings: Settings
) -> None:
    store = short_lease(redis, settings)
    await ask(store, "a")
    task = await claimed(store, "dead")
    await store.save(msgspec.structs.replace(task, progress=0.5, step="fit"))
    again = await claimed_in_time(store, "alive")
    assert (again.id, again.progress, again.started_at) == (task.id, 0.0, NOW + 9)
    assert not await store.renew(task, "dead")


async def test_taking_a_dead_trainers_task_leaves_the_queued_one_to_be_joined(
    redis: Redis, settings: Settings
) -> None:
    store = short_lease(redis, settings)
    await ask(store, "a")
    first = await claimed(store, "dead")
    second = await ask(store, "b", now=NOW + 1)
    assert (await claimed_in_time(store, "alive")).id == first.id
    assert (await ask(store, "c")).id == second.id


class FinishedMeanwhile(Redis):
    """A client on which the first lease is asked for only after something else has happened."""

    meanwhile = None

    async def set(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return await super().set(*args, **kwargs)


async def test_a_task_that_ends_while_another_trainer_looks_is_not_run_again(
    store: TaskStore, redis: Redis, settings: Settings
) -> None:
    await ask(store, "a")
    task = await claimed(store, "t1")
    done = msgspec.structs.replace(task, status="SUCCEEDED")
    slow = FinishedMeanwhile.from_url(settings.redis)
    try:
        slow.meanwhile = lambda: store.finish(done, "t1")
        assert await TaskStore(slow, settings).claim("t2", now=NOW) is None
    finally:
        await slow.aclose()
    assert await store.get(task.id) == done
    # Nor does the look leave a lease behind.
    second = await ask(store, "b")
    assert (await claimed(store, "t3")).id == second.id


async def test_the_newest_are_first_and_bounded(store: TaskStore) -> None:
    made = [await ask(store, f"k{n}", f"model-{n}", now=NOW + n) for n in range(5)]
    assert [task.id for task in await store.newest(3)] == [task.id for task in made[:1:-1]]


async def test_an_unknown_task_is_said_to_be_unknown(store: TaskStore) -> None:
    with pytest.raises(TaskNotFound, match="'nothing'"):
        await store.get("nothing")
    assert await store.newest() == []
    assert await store.claim("t", now=NOW) is None


def test_a_retrain_event_is_read() -> None:
    request = parse_request(b'{"idempotency_key": "k", "params": {"width": 32}}')
    assert request == RetrainRequest(idempotency_key="k", params={"width": 32.0})


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (None, ""),
        (b"", ""),
        (b"\xff", ""),
        (b"{}", "idempotency_key"),
        (b'{"idempotency_key": ""}', "idempotency_key"),
        (b'{"idempotency_key": "k", "model_id": "../x"}', "model_id"),
        (b'{"idempotency_key": "k", "model_id": "x\\n"}', "model_id"),
        (b'{"idempotency_key": "k", "params": {"width": "32"}}', "params[...]"),
        (b'{"idempotency_key": "k", "colour": 1}', "colour"),
        (json.dumps({"idempotency_key": "k", "reason": "r" * 513}).encode(), "reason"),
    ],
)
def test_what_is_no_retrain_event_is_named(raw: bytes | None, field: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse_request(raw)
    assert caught.value.field == field
