"""What a server checks of a version before it serves it, and what it says when it does not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from events_log import NOW
from object_store import BUCKET, s3_server
from parts import eventually
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from serving_tools import V1, V2, V3, Serve, activate, check_problem, ring, until_live

from headrace.artifact_store import ArtifactStore
from headrace.errors import ArtifactInvalid, StoreUnavailable
from headrace.producer import Producer
from headrace.settings import Settings, VersionSettings
from headrace.signatures import Signer, make_key
from headrace.topics import ensure_topics
from headrace.version_store import VersionStore
from headrace.versions import ROLLED_BACK, LiveVersion, Manifest
from models.retrieval.artifact import file_digests
from models.retrieval.retriever import Retriever
from models.retrieval.throttle import Rest
from serving.services import Services, create_services
from serving.version_loader import VersionLoader

AddVersion = Callable[[str], Path]
Harm = Callable[[Path], None]


def truncate(folder: Path) -> None:
    path = folder / "item_vectors.npy"
    path.write_bytes(path.read_bytes()[:-100])


def alter(folder: Path) -> None:
    path = folder / "query_tower.tflite"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def misshape(folder: Path) -> None:
    vectors = np.load(folder / "item_vectors.npy")
    np.save(folder / "item_vectors.npy", np.ascontiguousarray(vectors[:, 1:]))
    sum_up(folder)


def say_otherwise(folder: Path) -> None:
    """Every file is what the manifest says; what they say together is not what was trained."""
    vectors = np.load(folder / "item_vectors.npy")
    np.save(folder / "item_vectors.npy", np.ascontiguousarray(vectors[::-1]))
    sum_up(folder)


def recalibrate(folder: Path) -> None:
    path = folder / "calibration.json"
    found = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**found, "intercept": found["intercept"] + 0.5}))
    sum_up(folder)


def forget_probes(folder: Path) -> None:
    (folder / "probes.json").unlink()
    sum_up(folder)


def empty_probes(folder: Path) -> None:
    (folder / "probes.json").write_text('{"sessions": [], "answers": []}')
    sum_up(folder)


def rename(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, model_id="other")))


def sum_up(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(
        msgspec.json.encode(msgspec.structs.replace(manifest, files=file_digests(folder)))
    )


def whole(_: Path) -> None:
    """Do no harm."""


HARM: list[tuple[Harm, str]] = [
    (truncate, "item_vectors.npy has not the sha256"),
    (alter, "query_tower.tflite has not the sha256"),
    (misshape, "query_tower.tflite takes 16 values where"),
    (say_otherwise, "probes are not answered as they were"),
    (recalibrate, "a score differs by"),
    (forget_probes, "probes.json: not listed"),
    (empty_probes, "0 sessions, 0 answers"),
    (rename, "its manifest.json is of version"),
]


@pytest.mark.parametrize(("harm", "words"), HARM)
def test_a_version_that_is_not_what_was_trained_is_refused(
    harm: Harm, words: str, add_version: AddVersion, settings: Settings
) -> None:
    harm(add_version(V1))
    with pytest.raises(ArtifactInvalid, match=words) as refused:
        VersionLoader(settings).load("default", V1)
    assert V1 in str(refused.value)


def test_a_version_as_it_was_written_answers_its_probes(
    add_version: AddVersion, settings: Settings
) -> None:
    folder = add_version(V1)
    assert VersionLoader(settings).load("default", V1).manifest.version == V1
    probes = msgspec.json.decode((folder / "probes.json").read_bytes())
    assert len(probes["sessions"]) == len(probes["answers"]) == 100
    assert "walker" not in (folder / "probes.json").read_text()


def test_with_trusted_keys_only_what_they_signed_is_loaded(
    add_version: AddVersion, settings: Settings, tmp_path: Path
) -> None:
    own, other = (make_key(tmp_path / name) for name in ("own.pem", "other.pem"))
    folder = add_version(V1)
    loader = VersionLoader(trusting(settings, own))
    with pytest.raises(ArtifactInvalid, match="it is not signed"):
        loader.load("default", V1)
    sign(folder, tmp_path / "own.pem")
    assert loader.load("default", V1).manifest.version == V1
    with pytest.raises(ArtifactInvalid, match="none of the keys"):
        VersionLoader(trusting(settings, other)).load("default", V1)
    # Sums made anew after a change do not help whoever made it.
    recalibrate(folder)
    with pytest.raises(ArtifactInvalid, match="changed after it was signed"):
        loader.load("default", V1)


def trusting(settings: Settings, key: str) -> Settings:
    return msgspec.structs.replace(settings, versions=VersionSettings(trusted_keys=key))


def sign(folder: Path, key: Path) -> None:
    signature = Signer(key).sign((folder / "manifest.json").read_bytes())
    (folder / "manifest.sig").write_bytes(signature)


async def test_a_refused_version_is_named_with_the_reason_and_the_old_one_serves(
    live: httpx.AsyncClient, add_version: AddVersion, redis: Redis, settings: Settings
) -> None:
    folder = add_version(V2)
    recalibrate(folder)
    path = f"/v1/models/default/versions/{V2}"
    check_problem(await live.post(f"{path}/activate"), 409, "probes")
    check_problem(await live.put(f"{path}/pin"), 409, "probes")
    assert (await live.get("/readyz")).json()["refused"] is None
    # Past that check, by a trainer whose disk is another one, say.
    store = VersionStore(redis, settings, Producer(settings))
    await store.activate("default", V2, now=NOW, reason="a test")

    async def refused() -> bool:
        return (await live.get("/readyz")).json()["refused"] is not None

    await eventually(refused, "the version is refused")
    ready = await live.get("/readyz")
    assert ready.status_code == 200
    assert (ready.json()["model"], ready.json()["refused"]["version"]) == (V1, V2)
    assert "probes are not answered" in ready.json()["refused"]["reason"]
    shown = (await live.get("/metrics")).text
    assert "headrace_versions_refused_total 1.0" in shown
    assert f'headrace_refused_model_info{{model="default",reason="Version {V2}' in shown
    answer = await live.post(
        "/v1/recommendations", json={"user_interactions": {ring(1): {"timestamp": 1}}}
    )
    assert answer.json()["model"]["version"] == V1
    # Another one is put live: all is well.
    add_version(V3)
    await activate(live, V3)
    assert (await live.get("/readyz")).json()["refused"] is None
    assert "headrace_refused_model_info{" not in (await live.get("/metrics")).text


async def test_a_version_that_is_rolled_back_while_it_is_loaded_is_not_taken_up(
    settings: Settings, add_version: AddVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    add_version(V1)
    add_version(V2)
    async with services_of(settings) as services:
        versions, live, load = services.versions, services.live, services.loader.load
        await versions.activate("default", V1, now=1.0, reason="a test")
        await live._follow_version()
        await versions.activate("default", V2, now=2.0, reason="a test")
        loop = asyncio.get_running_loop()

        def meanwhile(change: Callable[[], Coroutine[Any, Any, Any]]) -> None:
            def loaded(model_id: str, version: str, rest: Rest) -> Retriever:
                asyncio.run_coroutine_threadsafe(change(), loop).result()
                return load(model_id, version, rest)

            monkeypatch.setattr(services.loader, "load", loaded)

        def activate_v1() -> Coroutine[Any, Any, Any]:
            return versions.activate("default", V1, now=3.0, reason=ROLLED_BACK)

        def delete() -> Coroutine[Any, Any, Any]:
            return versions.delete_model("default", now=5.0, reason="deleted")

        meanwhile(activate_v1)
        await live._follow_version()
        assert (live.version, live.refusal) == (V1, None)
        await versions.activate("default", V2, now=4.0, reason="a test")
        meanwhile(delete)
        await live._follow_version()
        assert live.version == V1
        await live._follow_version()
        assert live.version is None


async def test_a_server_that_has_nothing_asks_again_for_the_version_before(
    settings: Settings, add_version: AddVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis, then the store, do not answer while it looks for one in the place of a damaged one."""
    await asyncio.to_thread(ensure_topics, settings)
    add_version(V1)
    truncate(add_version(V2))
    async with services_of(settings) as services:
        versions, live, load = services.versions, services.live, services.loader.load
        for number, version in enumerate((V1, V2), start=1):
            await versions.activate("default", version, now=float(number), reason="a test")

        async def no_history(*_: object) -> list[LiveVersion]:
            raise RedisConnectionError("away")

        def no_store(model_id: str, version: str, rest: Rest) -> Retriever:
            # The damaged one is not looked at again.
            assert version == V1
            raise StoreUnavailable("away")

        history, live_now = versions.history, await versions.live("default")

        async def still_live(_: str) -> LiveVersion | None:
            return live_now

        with monkeypatch.context() as patched:
            patched.setattr(versions, "live", still_live)
            patched.setattr(versions, "history", no_history)
            with pytest.raises(RedisConnectionError):
                await live._follow_version()
            patched.setattr(versions, "history", history)
            patched.setattr(services.loader, "load", no_store)
            await live._follow_version()
            assert live.version is None
            patched.setattr(services.loader, "load", load)
            await live._follow_version()
        assert live.version == V1
        assert (live.refusal is not None, live.refusals) == (True, 1)
        monkeypatch.setattr(services.loader, "load", no_store)
        await live._follow_version()
        assert live.version == V1


async def test_a_server_that_has_started_has_the_version_before_at_hand(
    settings: Settings, add_version: AddVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    add_version(V1)
    add_version(V2)
    async with services_of(settings) as services:
        versions, live = services.versions, services.live
        await versions.activate("default", V1, now=1.0, reason="a test")
        await versions.activate("default", V2, now=2.0, reason="a test")
        await live._follow_version()
        assert (live.version, live.is_loaded(V1)) == (V2, False)
        await live._follow_version()
        assert live.is_loaded(V1)
        await versions.activate("default", V1, now=3.0, reason=ROLLED_BACK)
        monkeypatch.setattr(services.loader, "load", None)
        await live._follow_version()
        assert live.version == V1
    async with services_of(settings) as services:
        # What ops went back from is loaded no more.
        live = services.live
        await live._follow_version()
        await live._follow_version()
        assert (live.version, live.is_loaded(V2)) == (V1, False)


@asynccontextmanager
async def services_of(settings: Settings) -> AsyncIterator[Services]:
    """What a server has, with nobody following."""
    services = create_services(settings)
    try:
        yield services
    finally:
        for each in services.models.values():
            await each.impressions.close()
        services.kafka.close()
        await services.catalog_writer.close()
        await services.eraser.close()
        await services.producer.close()
        await services.redis.aclose()


async def test_ops_list_choose_pin_and_delete(
    live: httpx.AsyncClient, add_version: AddVersion, settings: Settings
) -> None:
    base = "/v1/models/default"
    for version in (V2, V3):
        add_version(version)
    await activate(live, V2)
    pinned = (await live.put(f"{base}/versions/{V2}/pin")).json()
    assert (pinned["live"]["version"], pinned["pinned"], pinned["rollback"]) == (V2, V2, V1)
    shown = (await live.get(f"{base}/versions")).json()["versions"]
    assert [(each["version"], each["live"], each["pinned"]) for each in shown] == [
        (V3, False, False), (V2, True, True), (V1, False, False),
    ]  # fmt: skip
    check_problem(await live.delete(f"{base}/versions/{V2}"), 409, "is live")
    assert (await live.delete(f"{base}/versions/{V3}")).status_code == 204
    check_problem(await live.post(f"{base}/versions/{V3}/activate"), 409, "was deleted")
    shown = (await live.get(f"{base}/versions")).json()["versions"]
    assert [each["version"] for each in shown] == [V2, V1]
    unknown = V3.replace("a", "b")
    check_problem(await live.delete(f"{base}/versions/{unknown}"), 404, unknown)
    check_problem(await live.delete(f"{base}/versions/..%2F..%2Fetc"), 404, "not the name")
    # By hand one goes where one likes, pinned or not.
    assert (await live.post(f"{base}/rollback")).json()["version"] == V1
    [model] = (await live.get("/v1/models")).json()["models"]
    assert (model["pinned"], model["rollback"]) == (V1, V2)
    assert (await live.delete(f"{base}/pin")).status_code == 204
    [model] = (await live.get("/v1/models")).json()["models"]
    assert model["pinned"] is None


async def test_of_two_rollbacks_at_once_one_is_told_of_the_other(
    live: httpx.AsyncClient, add_version: AddVersion
) -> None:
    add_version(V2)
    await activate(live, V2)
    answers = await asyncio.gather(*(live.post("/v1/models/default/rollback") for _ in range(2)))
    statuses = sorted(answer.status_code for answer in answers)
    [model] = (await live.get("/v1/models")).json()["models"]
    # Or the second one came when the first was done, and asked to go back from there.
    assert (statuses, model["live"]["version"]) in (([200, 409], V1), ([200, 200], V2))


async def test_a_rollback_that_leads_elsewhere_than_meant_does_nothing(
    live: httpx.AsyncClient, add_version: AddVersion
) -> None:
    add_version(V2)
    await activate(live, V2)
    rollback = "/v1/models/default/rollback"
    check_problem(await live.post(rollback, params={"to": "../x"}), 422, "to: Expected the name")
    leads_to = f"By now a rollback leads to {V1}, not to {V2}."
    check_problem(await live.post(rollback, params={"to": V2}), 409, leads_to)
    [model] = (await live.get("/v1/models")).json()["models"]
    assert model["live"]["version"] == V2
    back = await live.post(rollback, params={"to": V1})
    assert (back.status_code, back.json()["version"]) == (200, V1)


async def test_a_model_that_is_deleted_serves_and_trains_no_more(
    live: httpx.AsyncClient, add_version: AddVersion
) -> None:
    assert (await live.delete("/v1/models/default")).status_code == 204

    async def gone() -> bool:
        return (await live.get("/readyz")).json()["model"] is None

    await eventually(gone, "no version is live")
    check_problem(await live.delete("/v1/models/default"), 409, "was deleted")
    check_problem(await live.post("/v1/models/default/train"), 409, "was deleted")
    check_problem(await live.post(f"/v1/models/default/versions/{V1}/activate"), 409, "deleted")
    check_problem(await live.get("/v1/models/default/versions"), 404, "was deleted")
    answer = await live.post("/v1/recommendations", json={"user_id": "ann"})
    assert (answer.status_code, answer.json()["model"]) == (200, None)
    created = await live.put("/v1/models/default")
    assert created.json()["deleted"] is False
    # Its files are there until a trainer comes by; it stays deleted.
    assert (await live.get("/v1/models/default/versions")).json()["versions"] == []
    check_problem(await live.post(f"/v1/models/default/versions/{V1}/activate"), 409, "deleted")
    assert (await live.post("/v1/models/default/train")).status_code == 202
    add_version(V2)
    await activate(live, V2)


async def test_a_model_that_is_deleted_and_created_between_two_looks_serves_no_more(
    settings: Settings, serve: Serve, add_version: AddVersion
) -> None:
    seldom = msgspec.structs.replace(settings.serving, follow_s=3.0)
    ensure_topics(settings)
    async with serve(msgspec.structs.replace(settings, serving=seldom)) as client:
        add_version(V1)
        await activate(client, V1)
        assert (await client.delete("/v1/models/default")).status_code == 204
        assert (await client.put("/v1/models/default")).status_code == 200

        async def gone() -> bool:
            return (await client.get("/readyz")).json()["model"] is None

        await eventually(gone, "no version is live")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server(monkeypatch) as url:
        yield url


async def test_servers_on_other_machines_follow_over_an_object_store(
    s3: str, settings: Settings, serve: Serve, trained: Path, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    key = make_key(tmp_path / "key.pem")

    def on_machine(name: str, **more: str) -> Settings:
        versions = VersionSettings(cache=str(tmp_path / name), **more)
        return msgspec.structs.replace(settings, artifacts=f"s3://{BUCKET}/shop", versions=versions)

    trainer = ArtifactStore(on_machine("trainer"))
    for version in (V1, V2, V3):
        folder = trainer.local / "default" / version
        shutil.copytree(trained, folder)
        manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
        (folder / "manifest.json").write_bytes(
            msgspec.json.encode(msgspec.structs.replace(manifest, version=version))
        )
        if version != V3:
            sign(folder, tmp_path / "key.pem")
        await asyncio.to_thread(trainer.put, folder)
    async with (
        serve(on_machine("one", trusted_keys=key)) as one,
        serve(on_machine("two", trusted_keys=key)) as two,
    ):
        await activate(one, V1)
        await until_live(two, V1)
        await activate(two, V2)
        await until_live(one, V2)
        check_problem(await one.post(f"/v1/models/default/versions/{V3}/activate"), 409, "signed")
        back = await two.post("/v1/models/default/rollback")
        assert back.json()["version"] == V1
        await until_live(one, V1)
        await until_live(two, V1)
    assert not (tmp_path / "one" / "default" / V3).exists()
