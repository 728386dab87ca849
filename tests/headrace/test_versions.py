"""Versions: the manifests on disk, which one is live, and what `model-versions` tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from kafka_tools import read_topic
from redis.asyncio import Redis

from headrace.errors import ChangeRefused, VersionNotFound
from headrace.producer import Outgoing, Position, Producer
from headrace.settings import Settings
from headrace.topics import ensure_topics
from headrace.version_store import VersionStore
from headrace.versions import (
    LiveVersion,
    Manifest,
    ModelState,
    TrainingData,
    VersionChange,
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


def told(settings: Settings, model_id: str) -> list[VersionChange]:
    return [
        msgspec.json.decode(record.value, type=VersionChange)
        for record in read_topic(settings, "model-versions")
        if record.key == model_id.encode()
    ]


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
    assert told(settings, "default") == [
        VersionChange(
            model_id="default", change="live", version=V1, at=NOW, reason="task 1", sequence=1,
            live=V1, pinned=None,
        ),
        VersionChange(
            model_id="default", change="live", version=V2, at=NOW + 9, reason="activated",
            sequence=2, live=V2, pinned=None,
        ),
    ]  # fmt: skip
    assert [change.version for change in told(settings, "other")] == [V1]


async def test_a_change_does_not_wait_for_kafka_and_is_told_when_it_is_back(
    redis: Redis, settings: Settings
) -> None:
    ensure_topics(settings)
    away = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    producers = [Producer(away, timeout_s=0.5), Producer(settings)]
    without, store = (VersionStore(redis, settings, producer) for producer in producers)
    for version in (V1, V2):
        await without.activate("default", version, now=NOW, reason="a test")
    live = await store.live("default")
    assert live is not None
    assert live.version == V2
    assert told(settings, "default") == []
    await store.tell("default")
    await store.tell("default")
    assert [(each.sequence, each.live) for each in told(settings, "default")] == [(1, V1), (2, V2)]
    for producer in producers:
        await producer.close()


async def test_whoever_tells_many_changes_keeps_others_from_it_to_the_end(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.version_store._TOLD_AT_ONCE", 1)
    ensure_topics(settings)
    away = Producer(msgspec.structs.replace(settings, kafka="127.0.0.1:9"), timeout_s=0.5)
    await VersionStore(redis, settings, away).activate("default", V1, now=NOW, reason="a test")
    lock = settings.key("live", "{default}", "telling")
    left: list[int] = []

    class SlowProducer(Producer):
        async def send(self, records: Sequence[Outgoing]) -> list[Position]:
            left.append(await redis.pttl(lock))
            await redis.pexpire(lock, 5_000)
            return await super().send(records)

    producer = SlowProducer(settings)
    await VersionStore(redis, settings, producer).activate("default", V2, now=NOW, reason="a test")
    assert len(left) == 2
    assert min(left) > 5_000
    assert [each.live for each in told(settings, "default")] == [V1, V2]
    assert not await redis.exists(lock)
    for each in (away, producer):
        await each.close()


async def test_of_many_changes_at_once_each_sees_what_the_one_before_left(
    store: VersionStore, settings: Settings
) -> None:
    names = [version_name(NOW + 60 * number, "00000a") for number in range(20)]
    await store.activate("default", V1, now=NOW, reason="first")
    done = await asyncio.gather(
        *(
            store.activate("default", name, now=NOW, reason="a test", expected=V1)
            for name in names[1:]
        ),
        return_exceptions=True,
    )
    [won] = [each for each in done if isinstance(each, LiveVersion)]
    refused = [each for each in done if isinstance(each, ChangeRefused)]
    assert len(refused) == len(names) - 2
    assert {each.why for each in refused} == {"changed"}
    assert await store.live("default") == won
    free = await asyncio.gather(
        *(store.activate("default", name, now=NOW, reason="a test") for name in names)
    )
    history = await store.history("default")
    assert [each.sequence for each in history] == list(range(22, 0, -1))
    assert {each.sequence: each.version for each in free}.items() <= {
        each.sequence: each.version for each in history
    }.items()
    # However their tellers met, the topic's last word is what is live.
    await store.tell("default")
    assert told(settings, "default")[-1].live == history[0].version


async def test_a_pin_keeps_out_what_nobody_asked_for(store: VersionStore) -> None:
    with pytest.raises(ChangeRefused, match="no live version to pin"):
        await store.pin("default", "", now=NOW, reason="")
    await store.pin("default", V1, now=NOW, reason="pinned")
    state = await store.state("default")
    assert state.live is not None
    assert (state.live.version, state.pinned, state.before) == (V1, V1, None)
    with pytest.raises(ChangeRefused, match="headrace models unpin") as refused:
        await store.activate("default", V2, now=NOW, reason="task", unasked=True)
    assert refused.value.why == "pinned"
    # Whoever puts another one live by hand means that one to stay.
    await store.activate("default", V2, now=NOW, reason="activated")
    state = await store.state("default")
    assert (state.pinned, state.before) == (V2, V1)
    await store.unpin("default", now=NOW, reason="unpinned")
    await store.activate("default", V1, now=NOW, reason="task", unasked=True)
    assert (await store.state("default")).pinned is None


async def test_what_is_live_or_led_back_to_is_not_deleted_for_its_age(store: VersionStore) -> None:
    v0 = version_name(NOW - 60, "000000")
    for version in (v0, V1, V2):
        await store.activate("default", version, now=NOW, reason="a test")
    with pytest.raises(ChangeRefused, match="is live"):
        await store.delete("default", V2, now=NOW, reason="deleted")
    with pytest.raises(ChangeRefused, match="A rollback of model default leads to") as refused:
        await store.delete("default", V1, now=NOW, reason="retention", unasked=True)
    assert refused.value.why == "before"
    await store.delete("default", V1, now=NOW, reason="deleted")
    state = await store.state("default")
    assert (state.before, state.gone) == (v0, {V1})
    with pytest.raises(ChangeRefused, match="was deleted"):
        await store.activate("default", V1, now=NOW, reason="a test")
    # But for its mark, a rollback would lead to one that has been live.
    never_live = version_name(NOW + 60, "000000")
    await store.delete("default", never_live, now=NOW, reason="retention", unasked=True)
    await store.forget("default", [V1, never_live])
    state = await store.state("default")
    assert (state.before, state.gone) == (v0, {V1})


async def test_a_deleted_model_has_no_live_version_until_it_is_created_again(
    store: VersionStore, settings: Settings
) -> None:
    await store.pin("default", V1, now=NOW, reason="pinned")
    assert not await store.is_deleted("default")
    assert not await store.was_deleted("default")
    await store.delete_model("default", now=NOW, reason="deleted")
    assert await store.is_deleted("default")
    assert await store.was_deleted("default")
    assert await store.state("default") == ModelState(deleted=True)
    with pytest.raises(ChangeRefused, match="models create default"):
        await store.activate("default", V2, now=NOW, reason="task", unasked=True)
    await store.create_model("default", now=NOW, reason="created")
    assert not await store.is_deleted("default")
    assert await store.was_deleted("default")
    live = await store.activate("default", V2, now=NOW, reason="task", unasked=True, expected=None)
    assert live.sequence == 4
    assert [each.change for each in told(settings, "default")] == [
        "pin", "delete-model", "create-model", "live",
    ]  # fmt: skip


async def test_a_trainer_that_was_taken_over_comes_too_late(store: VersionStore) -> None:
    await store.activate("default", V2, now=NOW, reason="task 2", fence=8)
    with pytest.raises(ChangeRefused, match="has taken model default over") as refused:
        await store.activate("default", V1, now=NOW, reason="task 1", fence=7)
    assert refused.value.why == "fenced"
    await store.activate("default", V1, now=NOW, reason="task 3", fence=8)
    # Another trainer has taken the task, and has nothing to put live yet.
    await store.fence("default", 9)
    with pytest.raises(ChangeRefused):
        await store.activate("default", V2, now=NOW, reason="task 3", fence=8)
    with pytest.raises(ChangeRefused):
        await store.fence("default", 8)


async def test_times_keep_their_fractions(store: VersionStore) -> None:
    at = 1_795_620_107.374_125
    live = await store.activate("default", V1, now=at, reason='it "said" so\\')
    assert (live.live_since, live.reason) == (at, 'it "said" so\\')
    assert await store.live("default") == live


def test_a_version_as_the_api_shows_it() -> None:
    live = LiveVersion(model_id="default", version=V1, live_since=NOW, sequence=1, reason="")
    state = ModelState(live=live, pinned=V1)
    shown = describe(manifest(V1), state)
    assert (shown["live"], shown["pinned"], shown["verdict"]) == (True, True, None)
    assert shown["data"]["through"] == {"ratings": {"0": 5}}
    assert describe(manifest(V2), state)["live"] is False
    assert describe(manifest(V2), ModelState())["live"] is False
