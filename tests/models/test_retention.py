"""What the trainer deletes of the versions, and what stays whatever its age."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from object_store import small_version
from redis.asyncio import Redis

from headrace.artifact_store import ArtifactStore
from headrace.errors import ChangeRefused
from headrace.producer import Producer
from headrace.settings import ExperimentSettings, Settings, VersionSettings
from headrace.topics import ensure_topics
from headrace.version_store import VersionStore
from headrace.versions import (
    ROLLED_BACK,
    Manifest,
    Verdict,
    read_manifest,
    version_name,
)
from models.training.admission import admit
from models.training.retention import Retention

NOW = 1_704_060_026.0
NAMES = [version_name(NOW + 60 * number, "00000a") for number in range(8)]


@pytest.fixture
async def store(redis: Redis, settings: Settings) -> AsyncIterator[VersionStore]:
    ensure_topics(settings)
    producer = Producer(settings)
    yield VersionStore(redis, settings, producer)
    await producer.close()


async def test_the_newest_stay_with_what_is_live_and_what_was_before_it(
    store: VersionStore, settings: Settings
) -> None:
    settings = msgspec.structs.replace(
        settings,
        versions=VersionSettings(keep=3),
        experiment=ExperimentSettings(arms=f"{NAMES[3]}=0.1"),
    )
    files = ArtifactStore(settings)
    for name in NAMES:
        small_version(files.local, "default", name)
    for name in (NAMES[0], NAMES[1], NAMES[2]):
        await store.activate("default", name, now=NOW, reason="a test")
    times = [NOW]
    retention = Retention(settings, store, files, lambda: times[-1])
    await retention.sweep()
    kept = [*reversed(NAMES[5:]), NAMES[3], NAMES[2], NAMES[1]]
    assert files.versions("default") == kept
    # Whoever has just checked one of them cannot put it live.
    with pytest.raises(ChangeRefused, match="was deleted"):
        await store.activate("default", NAMES[4], now=NOW, reason="a test")
    times.append(NOW + 600)
    await retention.sweep()
    assert files.versions("default") == kept
    # Of those that have never been live nothing is remembered then.
    assert (await store.state("default")).gone == {NAMES[0]}
    # One that somebody deletes goes, the rollback's target too; the live one goes with its model.
    await store.delete("default", NAMES[1], now=NOW, reason="deleted")
    await retention.sweep()
    assert files.versions("default") == kept[:-1]
    await store.delete_model("default", now=NOW, reason="deleted")
    await retention.sweep()
    assert files.versions("default") == []


async def test_no_rollback_leads_to_what_was_deleted(
    store: VersionStore, settings: Settings
) -> None:
    settings = msgspec.structs.replace(settings, versions=VersionSettings(keep=1))
    files, times = ArtifactStore(settings), [NOW]
    retention = Retention(settings, store, files, lambda: times[-1])
    v1, v2, v3 = NAMES[:3]

    async def sweep() -> list[str]:
        for _ in range(2):
            await retention.sweep()
            times.append(times[-1] + 3_600)
        return files.versions("default")

    for name in (v1, v2, v3):
        small_version(files.local, "default", name)
        await store.activate("default", name, now=NOW, reason="a test")
    await store.delete("default", v2, now=NOW, reason="deleted")
    # What a rollback leads to by now outlasts its age.
    assert await sweep() == [v3, v1]
    assert (await store.state("default")).before == v1
    await store.activate("default", v1, now=NOW, reason=ROLLED_BACK, expected=v3)
    await store.delete("default", v3, now=NOW, reason="deleted")
    assert await sweep() == [v1]
    assert (await store.state("default")).before is None
    with pytest.raises(ChangeRefused, match="was deleted"):
        await store.activate("default", v3, now=NOW, reason=ROLLED_BACK)


def judged(folder: Path, *, accepted: bool, live: str | None) -> Manifest:
    manifest = read_manifest(folder)
    assert manifest is not None
    verdict = Verdict(
        accepted=accepted, reason="NDCG@10 is so and so.", against=live or "popularity", live=live,
        events=9, users=3, since=0.0, ndcg_at_10=0.1, baseline_ndcg_at_10=0.2, hr_at_10=0.1,
        baseline_hr_at_10=0.2, difference=-0.5, low=-0.6, high=-0.4, tolerance=0.02,
    )  # fmt: skip
    return msgspec.structs.replace(manifest, verdict=verdict)


async def test_what_the_gate_lets_pass_goes_live_and_nothing_else(
    store: VersionStore, tmp_path: Path
) -> None:
    folders = [small_version(tmp_path, "default", name) for name in NAMES[:4]]
    rejected = await admit(
        store, judged(folders[0], accepted=False, live=None), reason="task", now=NOW
    )
    assert rejected.status == "REJECTED"
    assert "NDCG@10 is so and so." in str(rejected.error)
    assert "headrace models activate" in str(rejected.error)
    assert await store.live("default") is None
    first = await admit(store, judged(folders[1], accepted=True, live=None), reason="task", now=NOW)
    assert (first.status, first.step, first.error) == ("SUCCEEDED", "live", None)
    # What it was measured beside is not what is live any more: the verdict says nothing of that.
    stale = await admit(store, judged(folders[2], accepted=True, live=None), reason="task", now=NOW)
    assert stale.status == "REJECTED"
    assert "has changed meanwhile" in str(stale.error)
    await store.pin("default", NAMES[1], now=NOW, reason="pinned")
    kept = await admit(
        store, judged(folders[3], accepted=True, live=NAMES[1]), reason="task", now=NOW
    )
    assert (kept.status, kept.error) == ("SUCCEEDED", None)
    assert "pinned to version" in kept.step
    live = await store.live("default")
    assert live is not None
    assert live.version == NAMES[1]
    with_none = msgspec.structs.replace(judged(folders[2], accepted=True, live=None), verdict=None)
    await store.unpin("default", now=NOW, reason="unpinned")
    assert (await admit(store, with_none, reason="task", now=NOW)).step == "live"
