"""Trainers as processes: a task runs once, goes on after a kill, and keeps within its limits."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import psutil
import pytest
from job_tools import clicks, serve
from kafka_tools import send_events, send_raw
from object_store import BUCKET, s3_server
from parts import Part, eventually
from redis.asyncio import Redis
from task_tools import ask, fits, reaches

from headrace.model_settings import ModelSettings
from headrace.producer import Producer
from headrace.remote_files import RemoteFiles
from headrace.settings import RetrainSettings, Settings, TrainerSettings, VersionSettings
from headrace.task_store import TaskStore
from headrace.tasks import Task
from headrace.topics import ensure_topics
from headrace.training_settings import TrainingSettings
from headrace.version_store import VersionStore
from headrace.versions import ACTIVATED, ROLLED_BACK, read_manifests

API_KEY = "an api key"
MODELS = ("fails", "grows", "hangs", "hangs-once", "shop")
"""What a stand-in's training does, and one that is trained."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    settings = msgspec.structs.replace(
        settings,
        api_key=API_KEY,
        models=dict.fromkeys(MODELS, ModelSettings()),
        trainer=TrainerSettings(lease_s=2.0, niceness=0),
        retrain=RetrainSettings(every_events=0),
    )
    ensure_topics(settings)
    return settings


@pytest.fixture
def tasks(redis: Redis, settings: Settings) -> TaskStore:
    return TaskStore(redis, settings)


@pytest.fixture
async def versions(redis: Redis, settings: Settings) -> AsyncIterator[VersionStore]:
    producer = Producer(settings)
    yield VersionStore(redis, settings, producer)
    await producer.close()


async def process_of(tasks: TaskStore, task: Task) -> int:
    """The process of a stand-in's training, which its log tells."""

    async def told() -> bool:
        return "process" in await tasks.log(task.id)

    await eventually(told, "the log is there")
    return int(re.findall(r"process (\d+)", await tasks.log(task.id))[-1])


def runs(process: int) -> bool:
    try:
        # Of one whose parent hangs the kernel keeps the status.
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def ends(process: int) -> None:
    async def has() -> bool:
        return not runs(process)

    await eventually(has, f"process {process} has ended")


def parent_of(process: int) -> int:
    return psutil.Process(process).ppid()


def stand_in(settings: Settings, folder: Path, name: str = "a") -> Part:
    """A trainer whose trainings learn nothing."""
    (folder / name).mkdir()
    return Part("trainer", settings, folder / name, faults=["train_nothing"])


async def test_a_task_goes_on_where_it_was_when_its_trainer_was_killed(
    settings: Settings, tasks: TaskStore, tmp_path: Path
) -> None:
    # Who is of the same host waits for no lease.
    trainers = TrainerSettings(lease_s=600.0, niceness=0)
    settings = msgspec.structs.replace(settings, trainer=trainers)
    task = await ask(tasks, "hangs-once")
    work = Path(settings.artifacts) / "hangs-once" / ".work" / task.id
    with stand_in(settings, tmp_path) as trainer:
        await fits(tasks, task)
        job = await process_of(tasks, task)
        trainer.end(signal.SIGKILL)
        await ends(job)
        assert work.exists()
        assert (await tasks.get(task.id)).status == "RUNNING"
        restarted = time.monotonic()
        trainer.start()
        ended = await reaches(tasks, task, "FAILED")
        # The one time that is promised.
        assert time.monotonic() - restarted < 30

        async def is_cleared() -> bool:
            return not work.exists()

        await eventually(is_cleared, "the task's checkpoints are deleted")
    # The same version, from the same offsets; and the checkpoint that the first attempt left.
    first, second = str(ended.error).split("\n")[:2]
    assert first == second
    assert ended.started_at is not None


async def test_a_task_goes_on_on_another_machine_from_what_the_first_one_shared(
    settings: Settings, tasks: TaskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(machine: str) -> Settings:
        versions = VersionSettings(cache=str(tmp_path / f"{machine}-cache"))
        return msgspec.structs.replace(settings, artifacts=f"s3://{BUCKET}/x", versions=versions)

    with s3_server(monkeypatch):
        remote = RemoteFiles(on("one").artifacts)
        with stand_in(on("one"), tmp_path, "one") as trainer:
            task = await ask(tasks, "hangs-once")
            await fits(tasks, task)
            job = await process_of(tasks, task)

            async def is_shared() -> bool:
                found = await asyncio.to_thread(remote.files, "hangs-once", ".work", task.id)
                return found == ["fit.npz"]

            await eventually(is_shared, "other machines find the checkpoint")
            trainer.end(signal.SIGKILL)
            await ends(job)

        async def is_gone() -> bool:
            return await asyncio.to_thread(remote.folders, "hangs-once", ".work") == []

        with stand_in(on("other"), tmp_path, "other"):
            ended = await reaches(tasks, task, "FAILED")
            await eventually(is_gone, "what was kept for another attempt is deleted")
        first, second = str(ended.error).split("\n")[:2]
        assert first == second


async def test_a_trainer_that_hung_finds_its_task_taken_and_changes_nothing(
    settings: Settings, tasks: TaskStore, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(stand_in(settings, tmp_path, name)) for name in ("one", "other")
        )
        task = await ask(tasks, "hangs-once")
        await fits(tasks, task)
        job = await process_of(tasks, task)

        holder = one if parent_of(job) == one.pid else other
        holder.signal(signal.SIGSTOP)
        ended = await reaches(tasks, task, "FAILED")
        # The training of the trainer that hangs ended by itself, before its task was taken.
        await ends(job)
        holder.signal(signal.SIGCONT)

        async def knows() -> bool:
            return "is another's by now" in holder.log()

        await eventually(knows, "the trainer that hung knows")
        assert await tasks.get(task.id) == ended
        later = await ask(tasks, "fails")
        await reaches(tasks, later, "FAILED")
        assert one.runs
        assert other.runs


async def test_what_is_over_its_limits_fails_and_the_trainer_survives(
    settings: Settings, tasks: TaskStore, tmp_path: Path
) -> None:
    limits = TrainerSettings(lease_s=2.0, memory_mb=250, timeout_s=6.0, concurrency=2, niceness=0)
    settings = msgspec.structs.replace(settings, trainer=limits)
    with stand_in(settings, tmp_path) as trainer:
        large, slow = await ask(tasks, "grows"), await ask(tasks, "hangs")
        words = (await reaches(tasks, large, "FAILED")).error or ""
        assert "MB of memory, more than 250 MB" in words
        assert "HEADRACE_TRAINER_MEMORY_MB" in words
        words = (await reaches(tasks, slow, "FAILED")).error or ""
        assert "longer than 6 s" in words
        assert "HEADRACE_TRAINER_TIMEOUT_S" in words
        after = await reaches(tasks, await ask(tasks, "fails"), "FAILED")
        # At what it failed stays with it.
        assert (after.error, after.step, after.progress) == ("it was to fail", "fit", 0.5)
        assert trainer.runs
        log = await tasks.log(after.id)
        assert "password ***" in log
        assert API_KEY not in log


async def test_a_running_task_is_cancelled_and_its_process_ends(
    settings: Settings, tasks: TaskStore, tmp_path: Path
) -> None:
    with stand_in(settings, tmp_path) as trainer:
        task = await ask(tasks, "hangs")
        await fits(tasks, task)
        job = await process_of(tasks, task)
        await tasks.cancel(task.id, now=0.0)
        await reaches(tasks, task, "CANCELLED")
        assert not runs(job)
        # A trainer that is told to end gives its task back.
        task = await ask(tasks, "hangs")
        await fits(tasks, task)
        assert trainer.end(signal.SIGTERM) == 0
    again = await tasks.claim(now=0.0)
    assert again is not None
    assert (again.task.id, again.attempt) == (task.id, 1)


async def test_the_topic_and_the_clock_ask_once_however_many_trainers_listen(
    settings: Settings, tasks: TaskStore, redis: Redis, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(
        settings, retrain=RetrainSettings(every_events=0, every="1h"), model_id="fails"
    )
    # The trainers were away for ten hours.
    await redis.set(settings.key("retrain", "fails", "tick"), "3600.0")
    asked = b'{"idempotency_key": "once", "model_id": "hangs", "epochs": 2}'
    wrong = b'{"model_id": "hangs", "epochs": 0}'
    send_raw(settings, "retrain", [(b"hangs", asked)] * 100 + [(b"hangs", wrong)])
    with ExitStack() as stack:
        for name in ("one", "other"):
            stack.enter_context(stand_in(settings, tmp_path, name))

        async def both() -> bool:
            return {task.model_id for task in await tasks.newest()} == {"fails", "hangs"}

        await eventually(both, "the clock and the topic have asked")
        by_topic = await tasks.of_model("hangs")
        assert by_topic is not None
        await fits(tasks, by_topic)
        await tasks.cancel(by_topic.id, now=0.0)
        await reaches(tasks, by_topic, "CANCELLED")
        [by_clock] = [task for task in await tasks.newest() if task.model_id == "fails"]
        assert by_clock.requested_by == "clock"
        await reaches(tasks, by_clock, "FAILED")
        await asyncio.sleep(1.5)
        assert len(await tasks.newest()) == 2


TINY = TrainingSettings(width=8, session_length=4, epochs=3, min_steps=30, final_epochs=0)


@pytest.mark.timeout(280)
async def test_a_training_that_was_killed_ends_and_the_same_data_are_not_trained_on_again(
    settings: Settings, tasks: TaskStore, versions: VersionStore, tmp_path: Path
) -> None:
    # At no low priority: others may be at work on this machine.
    trainer = TrainerSettings(lease_s=2.0, niceness=0)
    settings = msgspec.structs.replace(settings, training=TINY, trainer=trainer)
    with Part("trainer", settings, tmp_path) as trainer:
        # 1. Too few events are said to be too few.
        task = await reaches(tasks, await ask(tasks, "shop"), "FAILED")
        assert "There are 0 events; a training needs 100" in (task.error or "")

        # 2. Killed in the middle, the trainer goes on with the task.
        send_events(settings, "clicks", clicks(0, 150))
        serve(settings, 0, 150)
        task = await ask(tasks, "shop", with_feedback=True)

        async def trains() -> bool:
            return (await tasks.get(task.id)).progress > 0.1

        await eventually(trains, "it trains")
        trainer.end(signal.SIGKILL)
        trainer.start()
        await fits(tasks, task)
        done = await reaches(tasks, task, "SUCCEEDED")
        artifacts = Path(settings.artifacts)
        [manifest] = read_manifests(artifacts, "shop")
        assert done.version == manifest.version
        assert (done.data["events"], done.data["fingerprint"]) == (150, manifest.data.fingerprint)
        assert sum(done.data["offsets"]["clicks"].values()) == 150
        feedback = done.data["feedback"]
        assert feedback == msgspec.to_builtins(manifest.data.feedback)
        assert (sum(feedback["through"].values()), feedback["lists"]) == (150, 150)
        live = await versions.live("shop")
        assert live is not None
        assert (live.version, live.reason) == (done.version, f"task {task.id}")
        assert [each.name for each in (artifacts / "shop").iterdir() if each.name != ".work"] == [
            done.version
        ]

        # 3. The same data are not trained on again; the version that was made is live again.
        other = "20240101T000000Z-00000a"
        await versions.activate("shop", other, now=0.0, reason="task of another training")
        again = await reaches(tasks, await ask(tasks, "shop", with_feedback=True), "SUCCEEDED")
        assert again.version == done.version
        assert again.step == f"nothing new since version {done.version}, which is live again"
        live = await versions.live("shop")
        assert live is not None
        assert live.version == done.version

        # 4. But not where ops have put another one live since.
        await versions.activate("shop", other, now=0.0, reason=ACTIVATED)
        kept = await reaches(tasks, await ask(tasks, "shop", with_feedback=True), "SUCCEEDED")
        assert kept.step.endswith(f"ops put {other} live since, and it stays so")
        live = await versions.live("shop")
        assert live is not None
        assert live.version == other

        # 5. Nor where they went back to it.
        await versions.activate("shop", other, now=0.0, reason=ROLLED_BACK)
        kept = await reaches(tasks, await ask(tasks, "shop", with_feedback=True), "SUCCEEDED")
        assert kept.step.endswith("ops rolled it back, and it stays so")
        live = await versions.live("shop")
        assert live is not None
        assert live.version == other

        # 6. Nor is what they went back from and deleted made anew.
        await versions.delete("shop", done.version, now=0.0, reason="deleted")
        kept = await reaches(tasks, await ask(tasks, "shop", with_feedback=True), "SUCCEEDED")
        assert kept.step == (
            f"nothing new since version {done.version}, which was deleted; ops rolled it back, "
            "and it stays so"
        )
        assert kept.version is None
        live = await versions.live("shop")
        assert live is not None
        assert live.version == other
