"""What becomes of a task whose version is there already, or whose trainer cannot go on."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import msgspec
import pytest
from object_store import BUCKET, s3_server, small_version
from parts import eventually
from redis.asyncio import Redis
from task_tools import ask, reaches

from headrace.artifact_store import ArtifactStore
from headrace.errors import KafkaUnavailable, StoreUnavailable
from headrace.model_settings import ModelSettings
from headrace.producer import Producer
from headrace.settings import Settings, TrainerSettings, VersionSettings
from headrace.signatures import make_key
from headrace.task_store import Claim, TaskStore
from headrace.tasks import Task
from headrace.topics import ensure_topics
from headrace.unfinished import delete_unfinished
from headrace.version_store import VersionStore
from headrace.versions import (
    ACTIVATED,
    MANIFEST,
    PINNED,
    ROLLED_BACK,
    read_manifest,
    version_name,
)
from models.training import job_process, trainer
from models.training.admission import admit, chosen_since
from models.training.cluster_config import ClusterConfig
from models.training.follower import Follower
from models.training.job_messages import Job
from models.training.leftovers import Leftovers
from models.training.rendezvous import Announced, Failure, Rendezvous
from models.training.runner import PeerLost, Runner, TaskCancelled
from models.training.trainer import Trainer
from serving.app import create_app

NOW = 1_704_060_026.0
BEFORE, OTHER = (version_name(NOW - age, "00000a") for age in (60, 30))


@dataclass
class Shop:
    """A model whose trainer has died after its version was written."""

    settings: Settings
    tasks: TaskStore
    versions: VersionStore
    claim: Claim
    version: str

    async def went_live(self, version: str, reason: str = "a test") -> None:
        await self.versions.activate("default", version, now=NOW, reason=reason)

    async def live(self) -> str | None:
        live = await self.versions.live("default")
        return live.version if live else None

    def runner(self, settings: Settings | None = None) -> Runner:
        own = settings or self.settings
        return Runner(own, self.tasks, self.versions, self.claim, lambda: NOW)

    async def task(self) -> Task:
        return await self.tasks.get(self.claim.task.id)


@pytest.fixture
async def shop(settings: Settings, redis: Redis, toy_folder: Path) -> AsyncIterator[Shop]:
    ensure_topics(settings)
    producer = Producer(settings)
    tasks = TaskStore(redis, settings)
    await ask(tasks, "default")
    claim = await tasks.claim(now=NOW)
    assert claim is not None
    version = version_name(claim.task.created_at, claim.task.id[:6])
    folder = Path(settings.artifacts) / "default" / version
    shutil.copytree(toy_folder, folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    own = msgspec.structs.replace(manifest, model_id="default", version=version)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(own))
    yield Shop(settings, tasks, VersionStore(redis, settings, producer), claim, version)
    await producer.close()


async def test_a_version_that_was_written_goes_live(shop: Shop) -> None:
    await shop.runner().run()
    task = await shop.task()
    assert (task.status, task.step, task.version) == ("SUCCEEDED", "live", shop.version)
    assert await shop.live() == shop.version


async def test_a_rollback_stands_though_the_trainer_died_before_it_said_live(shop: Shop) -> None:
    await shop.went_live(BEFORE)
    await shop.went_live(shop.version)
    await shop.went_live(BEFORE, ROLLED_BACK)
    await shop.runner().run()
    assert await shop.live() == BEFORE
    task = await shop.task()
    assert (task.status, task.step) == ("SUCCEEDED", f"went live; {BEFORE} is since")


async def test_what_ops_put_live_stands_against_the_same_data(shop: Shop) -> None:
    await shop.went_live(BEFORE, PINNED)
    by_hand = await shop.versions.live("default")
    assert by_hand is not None
    # A version that a pin has kept out is nothing that ops went back from.
    assert await chosen_since(shop.versions, by_hand, shop.version) is None
    await shop.went_live(OTHER)
    await shop.went_live(BEFORE, ROLLED_BACK)
    back = await shop.versions.live("default")
    assert back is not None
    assert await chosen_since(shop.versions, back, shop.version) is None
    assert await chosen_since(shop.versions, back, OTHER) == "ops rolled it back"
    await shop.went_live(shop.version)
    await shop.went_live(BEFORE, ACTIVATED)
    by_hand = await shop.versions.live("default")
    assert by_hand is not None
    assert (
        await chosen_since(shop.versions, by_hand, shop.version) == f"ops put {BEFORE} live since"
    )


async def test_what_ops_went_back_from_and_deleted_is_not_made_anew(shop: Shop) -> None:
    await shop.runner().run()
    await shop.went_live(BEFORE, ROLLED_BACK)
    await shop.versions.delete("default", shop.version, now=NOW, reason="deleted")
    await ask(shop.tasks, "default")
    claim = await shop.tasks.claim(now=NOW)
    assert claim is not None
    shop.claim = claim
    last = await shop.runner()._last_success()
    assert last is not None
    assert last.version == shop.version
    await shop.runner()._keep_last()
    task = await shop.task()
    assert (task.status, task.version) == ("SUCCEEDED", None)
    assert task.step == (
        f"nothing new since version {shop.version}, which was deleted; ops rolled it back, and it "
        "stays so"
    )
    assert await shop.live() == BEFORE
    assert await shop.tasks.last_success("default") == last
    # What a training has put live is no choice of theirs.
    await shop.went_live(OTHER)
    assert await shop.runner()._last_success() is None


@pytest.mark.parametrize("by", ["the trainer", "the request"])
async def test_a_task_that_is_cancelled_leaves_no_version(
    shop: Shop, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its training had written one already."""
    if by == "the trainer":
        await shop.tasks.cancel(shop.claim.task.id, now=NOW)
        await shop.runner().run()
    else:
        await shop.tasks.release(shop.claim.task, shop.claim.fence)
        async with client_of(shop.settings) as client:
            answer = await client.delete(f"/v1/tasks/{shop.claim.task.id}")
            assert answer.status_code == 200, answer.text
    assert (await shop.task()).status == "CANCELLED"
    assert (await shop.versions.state("default")).gone == {shop.version}


async def test_a_version_that_has_been_live_outlasts_its_cancelled_task(shop: Shop) -> None:
    await shop.went_live(shop.version)
    await shop.went_live(BEFORE, ACTIVATED)
    store = ArtifactStore(shop.settings)
    await delete_unfinished(shop.versions, store, shop.claim.task, now=NOW)
    assert not (await shop.versions.state("default")).gone


async def test_a_log_that_cannot_be_read_costs_no_lease(shop: Shop) -> None:
    runner = shop.runner()
    assert not runner._log.exists()
    await runner._hold()
    await shop.tasks.cancel(shop.claim.task.id, now=NOW)
    with pytest.raises(TaskCancelled):
        await runner._hold()


@asynccontextmanager
async def client_of(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(msgspec.structs.replace(settings, log_level="WARNING"))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


async def test_the_last_version_goes_live_again_only_in_place_of_what_was_looked_at(
    shop: Shop,
) -> None:
    await shop.went_live(BEFORE)
    runner = shop.runner()
    said = await runner._live_again(shop.version, OTHER)
    assert said == (
        f"is kept, not live: The live version of model default has changed meanwhile: version "
        f"{BEFORE} is live."
    )
    assert await runner._live_again(shop.version, BEFORE) == "is live again"


async def test_what_becomes_of_a_version_whose_model_was_deleted_is_not_said_falsely(
    shop: Shop,
) -> None:
    manifest = await asyncio.to_thread(shop.runner()._load, shop.version)
    await shop.went_live(BEFORE)
    await shop.versions.delete_model("default", now=NOW, reason="deleted")
    outcome = await admit(shop.versions, manifest, reason="a test", now=NOW)
    assert outcome.status == "REJECTED"
    assert str(outcome.error).startswith("Model default was deleted; `headrace models create")
    assert str(outcome.error).endswith("Ask for another training.")


async def test_a_version_that_servers_would_not_trust_is_not_put_live(
    shop: Shop, tmp_path: Path
) -> None:
    own = VersionSettings(trusted_keys=make_key(tmp_path / "key.pem"))
    await shop.runner(msgspec.structs.replace(shop.settings, versions=own)).run()
    task = await shop.task()
    assert task.status == "FAILED"
    assert "is not signed" in str(task.error)
    assert await shop.live() is None


async def test_a_task_that_cannot_write_fails_in_the_end_and_the_trainer_goes_on(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_AGAIN_S", 0.01)
    await asyncio.to_thread(ensure_topics, settings)
    await asyncio.to_thread(_put_in_the_way, Path(settings.artifacts) / "logs")
    tasks = TaskStore(redis, settings)
    running = asyncio.create_task(Trainer(settings, clock=time.time).run())
    try:
        task = await reaches(tasks, await ask(tasks, "default"), "FAILED")
        assert "5 attempts at this task were broken off" in str(task.error)
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_a_store_that_is_away_for_a_moment_costs_no_training(
    shop: Shop, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version is written, and goes live once the store is there again."""
    away = 2
    fetch = ArtifactStore.fetch

    def fetch_later(self: ArtifactStore, *args: Any) -> Path:
        nonlocal away
        if away:
            away -= 1
            raise StoreUnavailable("it is away")
        return fetch(self, *args)

    monkeypatch.setattr(ArtifactStore, "fetch", fetch_later)
    work = Path(shop.settings.artifacts) / "default" / ".work" / shop.claim.task.id
    work.mkdir(parents=True)
    await shop.tasks.release(shop.claim.task, shop.claim.fence)
    monkeypatch.setattr(trainer, "_AWAY_S", (0.01, 600.0))
    running = asyncio.create_task(Trainer(shop.settings, clock=lambda: NOW).run())

    async def waits() -> bool:
        return (await shop.task()).step == "waits for attempt 3 of 5: it is away"

    async def is_given_back() -> bool:
        return bool(await redis.zcard(shop.settings.key("{tasks}", "pauses")))

    try:
        await eventually(waits, "the task says what it waits for")
        await eventually(is_given_back, "it waits with nobody")
        assert (await shop.task()).status == "RUNNING"
        assert work.exists()
        # Other models have their turn meanwhile.
        other = await ask(shop.tasks, "items")
        await reaches(shop.tasks, other, "FAILED")
        await redis.delete(shop.settings.key("{tasks}", "pauses"))
        task = await reaches(shop.tasks, shop.claim.task, "SUCCEEDED")
        assert (task.version, await shop.live()) == (shop.version, shop.version)
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_a_version_that_was_cut_off_on_its_way_to_the_store_goes_with_its_task(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(monkeypatch):
        versions = VersionSettings(cache=str(tmp_path))
        settings = msgspec.structs.replace(
            shop.settings, artifacts=f"s3://{BUCKET}/x", versions=versions
        )
        store, leftovers = ArtifactStore(settings), Leftovers(settings, shop.tasks)
        store.put(small_version(tmp_path, "default", BEFORE))
        client = boto3.client("s3")
        for version in (OTHER, shop.version):
            client.put_object(Bucket=BUCKET, Key=f"x/default/{version}/items.json", Body=b"[")
        for _ in range(2):
            assert store.versions("default") == [shop.version, OTHER, BEFORE]
            await leftovers.clear()
        # The task of the newest one is open, and may go on with it.
        assert store.versions("default") == [shop.version, BEFORE]
        await shop.tasks.cancel(shop.claim.task.id, now=NOW)
        await shop.runner(settings).run()
        for _ in range(2):
            await leftovers.clear()
        assert store.versions("default") == [BEFORE]


async def test_a_training_that_loses_a_machine_goes_on_and_says_what_that_failed_at(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Path(__file__).with_name("stand_in_job.py")
    monkeypatch.setattr(job_process, "JOB", (sys.executable, str(program)))
    changes: dict[str, Any] = {
        "models": {"crashes": ModelSettings()},
        "trainer": TrainerSettings(lease_s=5.0, niceness=0),
    }
    settings = msgspec.structs.replace(settings, **changes)
    await asyncio.to_thread(ensure_topics, settings)
    tasks, producer = TaskStore(redis, settings), Producer(settings)
    versions = VersionStore(redis, settings, producer)
    cluster = ClusterConfig(addresses=("a:1", "b:2"), number=0)
    rendezvous = Rendezvous(redis, settings, cluster)
    task = await ask(tasks, "crashes")

    async def attempt() -> Runner:
        claim = await tasks.claim(now=NOW)
        assert claim is not None
        return Runner(settings, tasks, versions, claim, lambda: NOW, rendezvous)

    # 1. A machine is gone: the checkpoint stays, and the task is tried again.
    runner = await attempt()
    with pytest.raises(PeerLost, match="Connection reset by peer"):
        await runner.run()
    await tasks.release(runner.task, runner._fence, counts=True)
    work = Path(settings.artifacts) / "crashes" / ".work" / task.id
    assert (work / "fit.npz").exists()
    assert (await tasks.get(task.id)).status == "RUNNING"

    # 2. It goes on until another process says that it cannot, which ends the task.
    runner = await attempt()
    running = asyncio.create_task(runner.run())

    async def goes_on() -> Announced | None:
        assert not running.done()
        return await rendezvous.read()

    await eventually(goes_on, "the others are told of the training")
    announced = await rendezvous.read()
    assert announced is not None
    for token in ("another", announced.token):
        failure = Failure(token=token, reason="On b:2: it took 9 MB. Raise it.", may_pass=False)
        await rendezvous.fail(failure)
    await running
    failed = await tasks.get(task.id)
    assert (failed.status, failed.error) == ("FAILED", "On b:2: it took 9 MB. Raise it.")
    await producer.close()


async def test_the_chief_is_told_that_another_machine_cannot_write(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(_put_in_the_way, Path(settings.artifacts) / "logs")
    configs = [ClusterConfig(addresses=("a:1", "b:2"), number=number) for number in (0, 1)]
    rendezvous = Rendezvous(redis, settings, configs[0])
    job = Job(model_id="default", version=BEFORE, created_at=NOW, distributed=True)
    announced = Announced("an attempt", job)
    await rendezvous.announce(announced)
    following = asyncio.create_task(Follower(settings, configs[1]).run())

    async def is_told() -> bool:
        return await rendezvous.failure(announced) is not None

    try:
        await eventually(is_told, "the chief is told")
    finally:
        following.cancel()
        await asyncio.wait({following})
    failure = await rendezvous.failure(announced)
    assert failure is not None
    assert failure.may_pass
    assert "On b:2, process 1 of the training: [Errno 17] File exists" in failure.reason


async def test_a_kafka_that_is_away_for_a_moment_fails_no_task(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.topics.BOOTSTRAP_MS", 200)
    gone = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    tasks, producer = TaskStore(redis, gone), Producer(gone)
    task = await ask(tasks, "default")

    async def attempt() -> Runner:
        claim = await tasks.claim(now=NOW)
        assert claim is not None
        return Runner(gone, tasks, VersionStore(redis, gone, producer), claim, lambda: NOW)

    runner = await attempt()
    with pytest.raises(KafkaUnavailable):
        await runner.run()
    assert (await tasks.get(task.id)).status == "RUNNING"
    # Nor is it asked before a task is cancelled, whichever attempt that is.
    await tasks.cancel(task.id, now=NOW)
    await tasks.release(runner.task, runner._fence, counts=True, pause_s=600.0)
    await redis.hset(settings.key("{tasks}", "attempts"), task.id, 5)
    await (await attempt()).run()
    assert (await tasks.get(task.id)).status == "CANCELLED"
    task = await ask(tasks, "default")
    runner = await attempt()
    await tasks.release(runner.task, runner._fence, counts=True)
    await redis.hset(settings.key("{tasks}", "attempts"), task.id, 4)
    await (await attempt()).run()
    failed = await tasks.get(task.id)
    assert failed.status == "FAILED"
    assert "is HEADRACE_KAFKA right? That was the last of 5 attempts" in str(failed.error)
    await producer.close()


def _put_in_the_way(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("in the place of a folder")
