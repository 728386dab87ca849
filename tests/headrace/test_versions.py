"""Versions: the manifests on disk, which one is live, and what `model-versions` tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiokafka.errors import KafkaError
from kafka_tools import read_topic
from redis.asyncio import Redis

from headrace.errors import VersionNotFound
from headrace.producer import Producer
from headrace.settings import Settings
from headrace.topics import ensure_topics
from headrace.versions import (
    LiveVersion,
    Manifest,
    SupersededTrainer,
    TrainingData,
    VersionStore,
    describe,
    read_manifests,
    version_folder,
    version_name,
)

pytestmark = pytest.mark.brokers("embedded", "apache")

NOW = 1_704_060_026.5
V1, V2 = version_name(NOW, "00000a"), version_name(NOW + 60, "00000b")


@pytest.fixture
async def store(redis: Redis, settings: Settings) -> AsyncIterator[VersionStore]:
    ensure_topics(settings)
    producer = Producer(settings)
    yield VersionStore(redis, settings, producer)
    await producer.close()


def manifest(version: str) -> Manifest:
    data = TrainingData(
        through={"ratings": {"0": 5}},
        events=5,
        users=2,
        items=3,
        fingerprint="f",
        from_timestamp=1.0,
        to_timestamp=2.0,
    )
    return Manifest(
        model_id="default",
        version=version,
        created_at=NOW,
        files={},
        data=data,
        parameters={"width": 8},
        metrics={"hr_at_10": 0.5},
        packages={},
    )


def write(artifacts: Path, version: str, raw: bytes | None = None) -> None:
    folder = artifacts / "default" / version
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(raw or msgspec.json.encode(manifest(version)))


def test_a_version_is_named_by_its_second_in_utc() -> None:
    assert V1 == "20231231T220026Z-00000a"
    assert version_folder(Path("a"), "default", V1) == Path("a/default") / V1


@pytest.mark.parametrize("name", ["", "..", "../../etc", V1 + "/..", V1 + "\n", "v1", V1.upper()])
def test_what_is_no_versions_name_leads_nowhere(name: str) -> None:
    with pytest.raises(VersionNotFound, match="is not the name of a version of model default"):
        version_folder(Path("a"), "default", name)


def test_manifests_are_listed_newest_first(tmp_path: Path) -> None:
    assert read_manifests(tmp_path, "default") == []
    for version in (V1, V2, f".{V1}.partial", "notes"):
        write(tmp_path, version)
    (tmp_path / "default" / version_name(NOW + 120, "00000c")).mkdir()
    assert [each.version for each in read_manifests(tmp_path, "default")] == [V2, V1]


@pytest.mark.parametrize("raw", [b"{", b"{}", b"\xff", b"[1]"])
def test_a_damaged_manifest_does_not_hide_the_others(tmp_path: Path, raw: bytes) -> None:
    write(tmp_path, V1)
    write(tmp_path, V2, raw)
    assert [each.version for each in read_manifests(tmp_path, "default")] == [V1]


async def test_before_the_first_version_nothing_is_live(store: VersionStore) -> None:
    assert await store.live("default") is None
    assert await store.history("default") == []
    assert await store.models() == []


async def test_what_is_activated_is_live_and_told_on_the_topic(
    store: VersionStore, settings: Settings
) -> None:
    first = await store.activate("default", V1, now=NOW, reason="task 1")
    second = await store.activate("default", V2, now=NOW + 9, reason="activated")
    other = await store.activate("other", V1, now=NOW, reason="task 2")
    assert await store.live("default") == second
    assert await store.live("other") == other
    assert await store.history("default") == [second, first]
    assert await store.history("default", 1) == [second]
    assert (first.sequence, second.sequence, other.sequence) == (1, 2, 1)
    assert (second.live_since, second.reason) == (NOW + 9, "activated")
    assert await store.models() == ["default", "other"]
    told = [
        (record.key, msgspec.json.decode(record.value, type=LiveVersion))
        for record in read_topic(settings, "model-versions")
    ]
    assert [live for key, live in told if key == b"default"] == [first, second]
    assert [live for key, live in told if key == b"other"] == [other]


async def test_a_version_that_cannot_be_told_is_not_live(redis: Redis, settings: Settings) -> None:
    away = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    store = VersionStore(redis, away, Producer(away))
    with pytest.raises(KafkaError):
        await store.activate("default", V1, now=NOW, reason="task 1")
    assert await store.live("default") is None


def test_a_version_as_the_api_shows_it() -> None:
    live = LiveVersion(model_id="default", version=V1, live_since=NOW, sequence=1, reason="")
    shown = describe(manifest(V1), live)
    assert shown["live"] is True
    assert shown["data"]["through"] == {"ratings": {"0": 5}}
    assert describe(manifest(V2), live)["live"] is False
    assert describe(manifest(V2), None)["live"] is False


async def test_a_trainer_whose_task_another_has_taken_puts_nothing_live(
    store: VersionStore, settings: Settings
) -> None:
    await store.fence("default", 7)
    await store.activate("default", V1, now=NOW, reason="task a", fence=7)
    # Another trainer takes the task, while the first one hangs.
    await store.fence("default", 8)
    for late in (
        store.activate("default", V2, now=NOW, reason="task a", fence=7),
        store.fence("default", 7),
    ):
        with pytest.raises(SupersededTrainer):
            await late
    live = await store.live("default")
    assert live is not None
    assert (live.version, live.sequence) == (V1, 1)
    assert len(await asyncio.to_thread(read_topic, settings, "model-versions")) == 1
    # Ops are no trainer.
    assert (await store.activate("default", V2, now=NOW, reason="activated")).sequence == 2
