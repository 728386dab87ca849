"""Versions in a folder and in a real S3 server: listed, fetched, put, deleted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import msgspec
import pytest
from object_store import BUCKET, s3_server, small_version

from headrace.artifact_store import ArtifactStore
from headrace.errors import ArtifactInvalid, InvalidSetting, StoreUnavailable, VersionNotFound
from headrace.settings import Settings, VersionSettings
from headrace.versions import Manifest, version_name

V1, V2, V3, V4 = (version_name(1_704_060_026 + 60 * number, "00000a") for number in range(4))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server(monkeypatch) as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def settings_of_two(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Settings, Settings]:
    """The trainer's settings and a server's on another machine; they share `artifacts` alone."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        address = f"s3://{BUCKET}/shop"
    else:
        address = str(tmp_path / "artifacts")
    return at(address, tmp_path / "trainer"), at(address, tmp_path / "server")


def at(address: str, cache: Path, **more: int) -> Settings:
    return Settings(artifacts=address, versions=VersionSettings(cache=str(cache), **more))


def test_what_one_machine_puts_another_one_fetches(
    settings_of_two: tuple[Settings, Settings],
) -> None:
    trainer, server = map(ArtifactStore, settings_of_two)
    assert server.models() == []
    assert server.versions("default") == []
    assert server.manifests("default") == []
    for version in (V1, V2):
        trainer.put(small_version(trainer.local, "default", version))
    assert server.models() == ["default"]
    assert server.versions("default") == [V2, V1]
    assert [each.version for each in server.manifests("default")] == [V2, V1]
    assert server.manifests("other") == []
    folder = server.fetch("default", V1)
    assert sorted(path.name for path in folder.rglob("*")) == [
        "index", "items.json", "manifest.json", "settings.json",
    ]  # fmt: skip
    assert server.fetch("default", V1) == folder
    with pytest.raises(VersionNotFound, match=V3):
        server.fetch("default", V3)
    for name in ("..", "../../etc"):
        with pytest.raises(VersionNotFound, match="not the name"):
            server.fetch("default", name)
        with pytest.raises(VersionNotFound, match="not the name"):
            server.manifest("default", name)
    trainer.delete("default", V1)
    trainer.delete("default", V1)
    assert server.versions("default") == [V2]
    assert server.manifest("default", V1) is None


def test_a_manifest_that_cannot_be_read_is_none(s3: str, tmp_path: Path) -> None:
    store = ArtifactStore(at(f"s3://{BUCKET}/", tmp_path / "cache"))
    store.put(small_version(store.local, "default", V1))
    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"default/{V1}/manifest.json", Body=b"{")
    assert store.manifest("default", V1) is None
    assert store.manifests("default") == []
    with pytest.raises(ArtifactInvalid, match=r"manifest\.json"):
        store.fetch("default", V1)


def test_a_version_goes_up_whole_and_down_whole(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore(at(f"s3://{BUCKET}/shop", tmp_path / "trainer"))
    folder = small_version(store.local, "default", V1)
    remote = store._remote
    assert remote is not None
    uploaded: list[str] = []
    put_file = remote._files.put_file

    def broken_off(source: str, target: str) -> None:
        if target.endswith("manifest.json"):
            raise OSError("the line is dead")
        uploaded.append(target)
        put_file(source, target)

    monkeypatch.setattr(remote._files, "put_file", broken_off)
    with pytest.raises(StoreUnavailable, match="the line is dead"):
        store.put(folder)
    assert len(uploaded) == 2
    other = ArtifactStore(at(f"s3://{BUCKET}/shop", tmp_path / "server"))
    assert other.manifests("default") == []
    with pytest.raises(VersionNotFound):
        other.fetch("default", V1)
    # Once more, and a file is lost: nothing lies in the cache then.
    monkeypatch.setattr(remote._files, "put_file", put_file)
    store.put(folder)
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=f"shop/default/{V1}/items.json")
    with pytest.raises(ArtifactInvalid, match=r"items\.json is listed .* not there"):
        other.fetch("default", V1)
    assert list((tmp_path / "server" / "default").iterdir()) == []


def test_the_cache_keeps_the_versions_used_last(s3: str, tmp_path: Path) -> None:
    trainer = ArtifactStore(at(f"s3://{BUCKET}/shop", tmp_path / "trainer", cache_limit=9))
    for version in (V1, V2, V3, V4):
        trainer.put(small_version(trainer.local, "default", version))
    trainer.put(small_version(trainer.local, "other", V1))
    now = [1_000.0]
    settings = at(f"s3://{BUCKET}/shop", tmp_path / "server", cache_limit=2)
    server = ArtifactStore(settings, lambda: now[0])

    def fetch(*versions: str) -> list[str]:
        for version in versions:
            now[0] += 1.0
            server.fetch("default", version)
        return sorted(path.name for path in (tmp_path / "server" / "default").iterdir())

    server.fetch("other", V1)
    # Any of them may still be read by another thread or process.
    assert fetch(V1, V2, V1, V3) == [V1, V2, V3]
    now[0] += 600.0
    assert fetch(V3) == [V1, V3]
    # Another model's do not count.
    assert fetch(V4) == [V3, V4]
    assert (tmp_path / "server" / "other" / V1).is_dir()
    # A version that was replaced under its name is fetched anew; one that is damaged, too.
    shutil.rmtree(trainer.local / "default" / V1)
    trainer.put(small_version(trainer.local, "default", V1, b"2"))
    assert (server.fetch("default", V1) / "items.json").read_bytes() == b"2"
    server.discard("default", V1)
    assert not (server.local / "default" / V1).exists()
    assert (server.fetch("default", V1) / "items.json").read_bytes() == b"2"


def test_of_two_that_fetch_at_once_neither_takes_it_from_the_other(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = ArtifactStore(at(f"s3://{BUCKET}/shop", tmp_path / "trainer"))
    trainer.put(small_version(trainer.local, "default", V1))
    one, other = (ArtifactStore(at(f"s3://{BUCKET}/shop", tmp_path / "cache")) for _ in range(2))
    remote = one._remote
    assert remote is not None
    get_file, seen = remote._files.get_file, list[os.stat_result]()

    def overtaken(source: str, target: str) -> None:
        if not seen:
            seen.append((other.fetch("default", V1) / "items.json").stat())
        get_file(source, target)

    monkeypatch.setattr(remote._files, "get_file", overtaken)
    folder = one.fetch("default", V1)
    # The other one is reading these very files.
    assert (folder / "items.json").stat().st_ino == seen[0].st_ino
    assert [path.name for path in folder.parent.iterdir()] == [V1]


def test_what_is_taken_away_while_it_is_read_is_not_called_damaged(s3: str, tmp_path: Path) -> None:
    store = ArtifactStore(at(f"s3://{BUCKET}/shop", tmp_path / "cache"))
    store.put(small_version(store.local, "default", V1))
    shutil.rmtree(store.fetch("default", V1))
    with pytest.raises(StoreUnavailable, match="fetched again at the next try"):
        store.discard("default", V1)
    assert store.fetch("default", V1).is_dir()


def test_no_path_of_a_manifest_leads_out_of_the_cache(s3: str, tmp_path: Path) -> None:
    trainer = ArtifactStore(at(f"s3://{BUCKET}/shop", tmp_path / "trainer"))
    folder = small_version(trainer.local, "default", V1)
    path = folder / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    for name in ("../../outside", str(tmp_path / "outside")):
        forged = msgspec.structs.replace(manifest, files={**manifest.files, name: ""})
        path.write_bytes(msgspec.json.encode(forged))
        trainer.put(folder)
        server = ArtifactStore(at(f"s3://{BUCKET}/shop", tmp_path / "server"))
        with pytest.raises(ArtifactInvalid, match="leads out"):
            server.fetch("default", V1)
    assert not (tmp_path / "outside").exists()


def test_what_is_refused_by_its_signature_is_not_fetched(s3: str, tmp_path: Path) -> None:
    trainer = ArtifactStore(at(f"s3://{BUCKET}/shop", tmp_path / "trainer"))
    trainer.put(small_version(trainer.local, "default", V1))
    server = ArtifactStore(at(f"s3://{BUCKET}/shop", tmp_path / "server"))

    def refuse(manifest: bytes, signature: bytes | None) -> None:
        assert (signature, b"items.json" in manifest) == (None, True)
        raise ArtifactInvalid("not signed")

    with pytest.raises(ArtifactInvalid, match="not signed"):
        server.fetch("default", V1, refuse)
    assert not (tmp_path / "server").exists()


def test_a_store_that_is_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(monkeypatch):
        pass
    store = ArtifactStore(at(f"s3://{BUCKET}/shop", tmp_path))
    with pytest.raises(StoreUnavailable, match=r"artifacts at s3://versions/shop"):
        store.versions("default")
    with pytest.raises(InvalidSetting, match="HEADRACE_ARTIFACTS is 'nowhere://bucket'"):
        ArtifactStore(at("nowhere://bucket", tmp_path))
