"""The queue of tasks: each request one task, one training of a model at a time, none run twice."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from headrace import task_reader
from headrace.errors import InvalidEvent, ModelDeleted, TaskEnded, TaskNotFound, TooSoon
from headrace.settings import RetrainSettings, Settings, TrainerSettings
from headrace.task_reader import Success
from headrace.task_store import (
    AnotherWaits,
    Claim,
    LeaseLost,
    TaskStore,
    TrainingInProgress,
)
from headrace.tasks import Task
from headrace.training_requests import TrainingRequest
from headrace.versions import TrainingData

NOW = 1_704_060_026.0


@pytest.fixture
def store(redis: Redis, settings: Settings) -> TaskStore:
    return TaskStore(redis, settings)


def with_trainer(redis: Redis, settings: Settings, **trainer: float) -> TaskStore:
    return TaskStore(
        redis,
        msgspec.structs.replace(settings, trainer=TrainerSettings(**trainer)),  # type: ignore[arg-type]
    )


async def ask(store: TaskStore, model_id: str = "default", now: float = NOW, **fields: str) -> Task:
    request = TrainingRequest(model_id=model_id, reason="because", requested_by="me", **fields)  # type: ignore[arg-type]
    return await store.create(request, uuid.uuid4().hex, now=now)


async def ask_held(
    store: TaskStore, model_id: str = "default", now: float = NOW, **fields: Any
) -> Task:
    """As the clock, the count and the topic ask."""
    request = TrainingRequest(model_id=model_id, **fields)
    return await store.create(request, uuid.uuid4().hex, now=now, waits=True)


async def claimed(store: TaskStore, now: float = NOW) -> Claim:
    claim = await store.claim(now=now)
    assert claim is not None
    return claim


async def claimed_in_time(store: TaskStore) -> Claim:
    """Claim until the lease of whoever held it has run out; the limit is against hanging."""
    for _ in range(200):
        if (claim := await store.claim(now=NOW + 9)) is not None:
            return claim
        await asyncio.sleep(0.02)
    raise AssertionError("the lease never runs out")


async def end(store: TaskStore, claim: Claim, status: str = "SUCCEEDED", **how: object) -> Task:
    task = msgspec.structs.replace(claim.task, status=status)
    await store.finish(task, claim.fence, **how)  # type: ignore[arg-type]
    return task


async def test_a_new_task_says_what_was_asked(store: TaskStore) -> None:
    request = TrainingRequest(
        epochs=3, params={"width": 32}, from_="2026-11-01", reason="r", requested_by="me"
    )
    task = await store.create(request, "a" * 32, now=NOW)
    assert (task.status, task.step, task.progress) == ("QUEUED", "queued", 0.0)
    assert (task.reason, task.requested_by, task.created_at) == ("r", "me", NOW)
    assert task.params == {"epochs": 3, "params": {"width": 32}, "from": "2026-11-01"}
    assert task.request == TrainingRequest(
        model_id="default", kind="retrieval", epochs=3, params={"width": 32}, from_="2026-11-01"
    )
    assert await store.get(task.id) == task


async def test_a_key_is_forgotten_with_its_task(
    store: TaskStore, redis: Redis, settings: Settings
) -> None:
    task = await ask(store, idempotency_key="k")
    await end(store, await claimed(store))
    # As a thousand newer ones do.
    await redis.delete(settings.key("{tasks}", "task", task.id))
    again = await ask(store, idempotency_key="k")
    assert again.id != task.id
    assert (await ask(store, idempotency_key="k")).id == again.id


async def test_a_model_keeps_the_kind_of_its_versions(store: TaskStore) -> None:
    # Without versions it is what settings name it for.
    assert [(await ask(store, name)).kind for name in ("default", "items", "ranking")] == [
        "retrieval", "items", "ranking",
    ]  # fmt: skip
    for _ in range(3):
        await end(store, await claimed(store), "CANCELLED")
    films = await ask(store, "films", kind="items", idempotency_key="k")
    await end(store, await claimed(store), "REJECTED", trained=True)
    with pytest.raises(InvalidEvent, match="is ranking; the versions of model films are of the k"):
        await ask(store, "films", kind="ranking")
    with pytest.raises(InvalidEvent, match="items has two-tower"):
        await ask(store, "films", algorithm="transformer")
    assert (await ask(store, "films", kind="ranking", idempotency_key="k")).id == films.id
    # As the clock and the count ask.
    assert (await ask(store, "films")).kind == "items"
    await end(store, await claimed(store))
    await store.refuse_model("films")
    await store.admit_model("films")
    assert (await ask(store, "films", kind="ranking")).kind == "ranking"


async def test_the_same_key_always_gives_the_same_task(store: TaskStore) -> None:
    task = await ask(store, idempotency_key="k")
    assert (await ask(store, idempotency_key="k", now=NOW + 1)).id == task.id
    running = await claimed(store)
    assert await ask(store, idempotency_key="k") == running.task
    await end(store, running)
    assert (await ask(store, idempotency_key="k")).status == "SUCCEEDED"
    assert await store.claim(now=NOW) is None
    assert len(await store.newest()) == 1


async def test_a_model_that_is_queued_or_training_takes_no_other_request(store: TaskStore) -> None:
    task = await ask(store)
    for _ in ("queued", "running"):
        with pytest.raises(TrainingInProgress) as caught:
            await ask(store)
        words = "The training is still in progress for the same model ID: default"
        assert str(caught.value) == words
        assert caught.value.task.id == task.id
        running = await store.claim(now=NOW) or running  # noqa: F821
    await end(store, running, "FAILED")
    assert (await ask(store)).id != task.id


async def test_a_request_that_cannot_come_again_is_a_task_that_is_held_back(
    store: TaskStore,
) -> None:
    running = await ask(store)
    held = await ask_held(store, epochs=3, idempotency_key="k", now=NOW + 1)
    assert held.status == "QUEUED"
    assert held.step.startswith("waits: its model is busy")
    assert "this is cancelled for all of them" in held.step
    assert [task.id for task in await store.newest(status="QUEUED")] == [held.id, running.id]
    assert (await store.get(held.id)).queue_position == 2
    # It is known by its key, one of a model waits, and nobody runs it.
    assert (await ask_held(store, idempotency_key="k")).id == held.id
    with pytest.raises(AnotherWaits) as caught:
        await ask_held(store)
    assert caught.value.task.id == held.id
    claim = await claimed(store)
    assert (claim.task.id, await store.claim(now=NOW)) == (running.id, None)
    assert await store.queue_held(now=NOW) == []
    await end(store, claim)
    [queued] = await store.queue_held(now=NOW + 9)
    assert (queued.id, queued.step, queued.created_at) == (held.id, "queued", NOW + 1)
    assert await store.queue_held(now=NOW + 9) == []
    assert (await claimed(store)).task.params == {"epochs": 3}


async def test_a_task_that_is_held_back_is_cancelled(store: TaskStore) -> None:
    running = await ask(store)
    held = await ask_held(store)
    assert [task.id for task in await store.open_of_model("default")] == [running.id, held.id]
    assert (await store.cancel(held.id, now=NOW + 1)).status == "CANCELLED"
    await end(store, await claimed(store))
    assert await store.queue_held(now=NOW + 2) == []
    assert await store.claim(now=NOW + 2) is None
    assert (await store.cancel(held.id, now=NOW + 3)).finished_at == NOW + 1


async def test_a_task_that_waited_in_vain_says_why(store: TaskStore) -> None:
    await ask(store, "films")
    other = await ask_held(store, "films", kind="items")
    # Whoever names no kind means what is trained just now.
    await ask(store, "books", kind="items")
    books = await ask_held(store, "books")
    assert books.kind == "items"
    for _ in range(2):
        await end(store, await claimed(store), trained=True)
    await store.refuse_model("books")
    failed = {task.id: task.error or "" for task in await store.queue_held(now=NOW + 5)}
    assert "the versions of model films are of the kind retrieval" in failed[other.id]
    assert "books was deleted" in failed[books.id]
    for task_id in failed:
        task = await store.get(task_id)
        assert (task.status, task.finished_at, task.error) == ("FAILED", NOW + 5, failed[task_id])
    assert await store.queue_held(now=NOW + 6) == []


async def test_too_soon_after_a_training_is_said_with_the_wait(
    redis: Redis, settings: Settings
) -> None:
    strict = msgspec.structs.replace(settings, retrain=RetrainSettings(min_interval="100s"))
    store = TaskStore(redis, strict)
    await ask(store)
    # What failed has trained nothing.
    await end(store, await claimed(store), "FAILED")
    await ask(store)
    running = await claimed(store, NOW)
    await end(store, running, trained=True)
    with pytest.raises(TooSoon, match="100s ago") as caught:
        await ask(store, now=NOW + 40.5)
    assert caught.value.retry_after_s == 60
    held = await ask_held(store)
    assert await store.queue_held(now=NOW + 99) == []
    assert [task.id for task in await store.queue_held(now=NOW + 100)] == [held.id]


async def test_a_deleted_model_is_not_trained(store: TaskStore) -> None:
    await store.refuse_model("gone")
    with pytest.raises(ModelDeleted, match="gone was deleted"):
        await ask(store, "gone")
    with pytest.raises(ModelDeleted):
        await ask_held(store, "gone")
    await store.admit_model("gone")
    await ask(store, "gone")


async def test_so_many_trainings_run_as_there_may_be(redis: Redis, settings: Settings) -> None:
    store = with_trainer(redis, settings, concurrency=2)
    made = [await ask(store, name, NOW + n) for n, name in enumerate(("one", "two", "three"))]
    assert [task.queue_position for task in made] == [1, 2, 3]
    first, second = await claimed(store), await claimed(store)
    assert [first.task.id, second.task.id] == [task.id for task in made[:2]]
    assert await store.claim(now=NOW) is None
    assert (await store.get(made[2].id)).queue_position == 1
    assert (await store.get(made[0].id)).queue_position is msgspec.UNSET
    await end(store, first)
    assert (await claimed(store)).task.id == made[2].id


async def test_a_claimed_task_runs(store: TaskStore) -> None:
    await ask(store)
    task = (await claimed(store, now=NOW + 5)).task
    assert (task.status, task.started_at, task.updated_at) == ("RUNNING", NOW + 5, NOW + 5)
    assert await store.get(task.id) == task
    assert await store.of_model("default") == task


async def test_a_task_that_is_taken_again_keeps_its_progress(store: TaskStore) -> None:
    await ask(store)
    first = await claimed(store)
    await store.save(msgspec.structs.replace(first.task, progress=0.5), first.fence)
    await store.release(first.task, first.fence)
    assert (await claimed(store)).task.progress == 0.5


async def test_many_trainers_take_a_task_once(store: TaskStore) -> None:
    await ask(store)
    claims = await asyncio.gather(*(store.claim(now=NOW) for _ in range(10)))
    assert len([claim for claim in claims if claim is not None]) == 1


async def test_whoever_lost_a_task_can_write_nothing_of_it(
    redis: Redis, settings: Settings
) -> None:
    store = with_trainer(redis, settings, lease_s=0.05)
    await ask(store)
    hung = await claimed(store)
    taken = await claimed_in_time(store)
    assert (taken.task.id, taken.attempt) == (hung.task.id, 2)
    assert taken.fence > hung.fence
    assert taken.task.started_at == NOW
    for late in (
        store.save(hung.task, hung.fence),
        store.save_log(hung.task, hung.fence, b"late"),
        store.hold(hung.task, hung.fence),
        store.hold(hung.task, hung.fence, commit=True),
        store.finish(hung.task, hung.fence),
    ):
        with pytest.raises(LeaseLost):
            await late
    await store.release(hung.task, hung.fence)
    assert await store.get(taken.task.id) == taken.task
    assert await store.log(taken.task.id) == ""
    assert await store.hold(taken.task, taken.fence) == "held"
    await end(store, taken)
    with pytest.raises(LeaseLost):
        await store.save(hung.task, hung.fence)


async def test_a_lease_that_ran_out_is_held_again_unless_another_training_runs_instead(
    redis: Redis, settings: Settings
) -> None:
    short = with_trainer(redis, settings, lease_s=0.05)
    store = TaskStore(redis, settings)
    await ask(short, "one")
    hung = await claimed(short)
    await asyncio.sleep(0.1)
    assert await short.hold(hung.task, hung.fence) == "held"
    await asyncio.sleep(0.1)
    await ask(store, "two", NOW - 1)
    assert (await claimed(store)).task.model_id == "two"
    with pytest.raises(LeaseLost):
        await short.hold(hung.task, hung.fence)


async def test_a_task_that_is_given_back_is_taken_at_once_and_has_not_failed(
    store: TaskStore,
) -> None:
    await ask(store)
    first = await claimed(store)
    await store.release(first.task, first.fence)
    again = await claimed(store)
    assert (again.task.id, again.attempt) == (first.task.id, 1)


async def test_a_task_that_is_given_back_for_later_takes_no_place_and_is_cancelled_at_once(
    redis: Redis, settings: Settings
) -> None:
    store = with_trainer(redis, settings, concurrency=1)
    await ask(store, now=NOW - 1)
    first = await claimed(store)
    await store.release(first.task, first.fence, counts=True, pause_s=600.0)
    assert await store.claim(now=NOW) is None
    other = await ask(store, "two")
    claim = await claimed(store)
    assert claim.task.id == other.id
    await end(store, claim)
    assert (await store.cancel(first.task.id, now=NOW)).status == "CANCELLED"
    # Nor does its pause outlast it, or a pause that is over.
    assert await redis.zcard(settings.key("{tasks}", "pauses")) == 0
    later = await ask(store)
    claim = await claimed(store)
    await store.release(claim.task, claim.fence, counts=True, pause_s=0.01)
    again = await claimed_in_time(store)
    assert (again.task.id, again.attempt) == (later.id, 2)
    assert await redis.zcard(settings.key("{tasks}", "pauses")) == 0
    # Whoever cancels it while it is given back does not wait for the pause.
    assert (await store.cancel(later.id, now=NOW)).status == "RUNNING"
    await store.release(again.task, again.fence, counts=True, pause_s=600.0)
    again = await claimed(store)
    assert await store.hold(again.task, again.fence) == "cancelled"


async def test_a_queued_task_is_cancelled_at_once(store: TaskStore) -> None:
    task = await ask(store)
    cancelled = await store.cancel(task.id, now=NOW + 1)
    assert (cancelled.status, cancelled.finished_at) == ("CANCELLED", NOW + 1)
    assert await store.cancel(task.id, now=NOW + 2) == cancelled
    assert await store.claim(now=NOW) is None
    await ask(store)


async def test_a_running_task_is_cancelled_by_its_trainer(store: TaskStore) -> None:
    await ask(store)
    running = await claimed(store)
    assert (await store.cancel(running.task.id, now=NOW)).status == "RUNNING"
    assert await store.hold(running.task, running.fence) == "cancelled"
    assert await store.hold(running.task, running.fence, commit=True) == "cancelled"
    ended = await end(store, running, "CANCELLED")
    assert await store.cancel(ended.id, now=NOW) == ended


async def test_what_is_going_live_or_has_ended_is_not_cancelled(store: TaskStore) -> None:
    await ask(store)
    running = await claimed(store)
    assert await store.hold(running.task, running.fence, commit=True) == "held"
    with pytest.raises(TaskEnded, match="just going live"):
        await store.cancel(running.task.id, now=NOW)
    await end(store, running)
    with pytest.raises(TaskEnded, match="ended already: SUCCEEDED"):
        await store.cancel(running.task.id, now=NOW)


async def test_a_dead_trainers_task_is_cancelled_at_once_and_it_comes_too_late(
    redis: Redis, settings: Settings
) -> None:
    store = with_trainer(redis, settings, lease_s=0.05)
    await ask(store)
    dead = await claimed(store)
    await asyncio.sleep(0.1)
    assert (await store.cancel(dead.task.id, now=NOW)).status == "CANCELLED"
    with pytest.raises(LeaseLost):
        await end(store, dead)


async def test_a_task_that_is_made_while_they_are_listed_shows_none_twice(
    redis: Redis, settings: Settings, store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(TaskStore):
        async def _read(self, ids: Iterable[Any]) -> list[Task]:
            found = await super()._read(ids)
            await ask(store, f"new-{uuid.uuid4().hex}", NOW + 9)
            return found

    monkeypatch.setattr(task_reader, "_PAGE", 2)
    made = [await ask(store, f"model-{n}", NOW + n) for n in range(4)]
    found = [task.id for task in await Busy(redis, settings).newest()]
    assert found == [task.id for task in made[::-1]]


async def test_tasks_are_found_by_kind_and_status_the_newest_first(store: TaskStore) -> None:
    made = [await ask(store, f"model-{n}", NOW + n) for n in range(5)]
    assert [task.id for task in await store.newest(3)] == [task.id for task in made[:1:-1]]
    running = await claimed(store)
    assert [task.id for task in await store.newest(status="RUNNING")] == [running.task.id]
    queued = await store.newest(status="QUEUED")
    assert [task.queue_position for task in queued] == [4, 3, 2, 1]
    assert len(await store.newest(kind="retrieval")) == 5
    assert await store.newest(kind="ranking") == []


async def test_a_log_and_the_last_success_are_kept(store: TaskStore) -> None:
    await ask(store)
    running = await claimed(store)
    await store.save_log(running.task, running.fence, "fitted ✓".encode())
    assert await store.log(running.task.id) == "fitted ✓"
    assert await store.last_success("default") is None
    data = TrainingData(
        through={}, events=1, users=1, items=1, fingerprint="f", from_timestamp=0, to_timestamp=0
    )
    success = Success(version="v", made_with="m", data=data)
    await end(store, running, success=success)
    assert await store.last_success("default") == success
    assert await store.log(running.task.id) == "fitted ✓"


async def test_the_oldest_tasks_are_forgotten_but_not_those_that_are_open(
    store: TaskStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.task_store._KEPT", 3)
    waiting = await ask(store, "model-0", NOW)
    held = await ask_held(store, "model-0", NOW)
    cancelled = await ask(store, "model-1", NOW + 1)
    await store.cancel(cancelled.id, now=NOW)
    for n in range(2, 5):
        await ask(store, f"model-{n}", NOW + n)
    with pytest.raises(TaskNotFound):
        await store.get(cancelled.id)
    assert (await store.get(waiting.id)).status == "QUEUED"
    assert (await store.get(held.id)).status == "QUEUED"


async def test_an_unknown_task_is_said_to_be_unknown(store: TaskStore) -> None:
    for asked in (store.get("nothing"), store.log("nothing"), store.cancel("nothing", now=NOW)):
        with pytest.raises(TaskNotFound, match="'nothing'"):
            await asked
    assert await store.newest() == []
    assert await store.of_model("default") is None
    assert await store.claim(now=NOW) is None


async def test_a_key_is_of_one_model(store: TaskStore) -> None:
    first = await ask(store, "default", idempotency_key="nightly")
    other = await ask(store, "books", idempotency_key="nightly")
    assert (first.model_id, other.model_id) == ("default", "books")
    assert (await ask(store, "books", idempotency_key="nightly")).id == other.id


async def test_attempts_that_were_broken_off_are_counted(store: TaskStore) -> None:
    await ask(store)
    for counts, attempt in ((False, 1), (True, 1), (True, 2), (False, 3), (False, 3)):
        claim = await claimed(store)
        assert claim.attempt == attempt
        await store.release(claim.task, claim.fence, counts=counts)


async def test_a_model_that_is_deleted_while_it_trains_may_be_another_kind_at_once(
    redis: Redis, settings: Settings
) -> None:
    strict = msgspec.structs.replace(settings, retrain=RetrainSettings(min_interval="1h"))
    store = TaskStore(redis, strict)
    await ask(store, "books")
    claim = await claimed(store)
    await store.refuse_model("books")
    await end(store, claim, trained=True)
    await store.admit_model("books")
    assert (await ask(store, "books", kind="items")).kind == "items"
    # It may be created again before the training has ended, too.
    claim = await claimed(store)
    await store.refuse_model("books")
    await store.admit_model("books")
    await end(store, claim, trained=True)
    assert (await ask(store, "books", kind="retrieval")).kind == "retrieval"
    await end(store, await claimed(store), trained=True)
    with pytest.raises(InvalidEvent, match="of the kind retrieval"):
        await ask(store, "books", kind="items")
