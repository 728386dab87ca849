"""What a task keeps on disk: shared where machines share an object store, deleted in the end."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import msgspec
import pytest
from object_store import BUCKET, s3_server

from headrace import task_files
from headrace.settings import Settings, VersionSettings
from headrace.task_files import TaskWork, kept_work, make_room_for_log, remove_files, version_of
from headrace.tasks import Task

TASK = Task(
    id="3f2a" * 8, model_id="shop", kind="retrieval", status="RUNNING", progress=0.5, step="fit",
    created_at=1_704_060_026.0, updated_at=1_704_060_026.0, requested_by="a test", reason="",
    params={},
)  # fmt: skip
OF_TASK = (TASK.model_id, TASK.id)


def write(path: Path, content: bytes, written_at: float) -> None:
    path.write_bytes(content)
    os.utime(path, (written_at, written_at))


def test_an_attempt_on_another_machine_finds_what_was_kept_last(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(machine: str) -> Settings:
        versions = VersionSettings(cache=str(tmp_path / machine))
        return msgspec.structs.replace(settings, artifacts=f"s3://{BUCKET}/x", versions=versions)

    with s3_server(monkeypatch):
        one, other = TaskWork(on("one"), *OF_TASK), TaskWork(on("other"), *OF_TASK)
        one.fetch()
        assert list(one.folder.iterdir()) == []
        write(one.folder / "fit.npz", b"epoch 1", 1.0)
        one.share()
        write(one.folder / "fit.npz", b"epoch 2", 2.0)
        # What is being written is no checkpoint yet.
        write(one.folder / "fit.npz.partial", b"epo", 3.0)
        one.share()
        other.fetch()
        assert {path.name: path.read_bytes() for path in other.folder.iterdir()} == {
            "fit.npz": b"epoch 2"
        }
        write(other.folder / "fit.npz", b"epoch 3", 4.0)
        write(other.folder / "fit-on-all.npz", b"epoch 1", 5.0)
        other.share()
        # Back on the first one, where an older state lies.
        again = TaskWork(on("one"), *OF_TASK)
        again.fetch()
        assert (again.folder / "fit.npz").read_bytes() == b"epoch 3"
        assert (again.folder / "fit-on-all.npz").read_bytes() == b"epoch 1"
        assert kept_work(on("third")) == {OF_TASK}
        remove_files(on("one"), TASK)
        assert kept_work(on("third")) == set()
        assert not again.folder.exists()
        third = TaskWork(on("third"), *OF_TASK)
        third.fetch()
        assert list(third.folder.iterdir()) == []


def test_of_a_task_that_has_ended_nothing_stays(settings: Settings) -> None:
    work = TaskWork(settings, *OF_TASK)
    work.fetch()
    work.share()
    model = Path(settings.artifacts) / TASK.model_id
    left = model / f".{version_of(TASK)}.partial"
    # Of another task, which may be exporting.
    others = model / ".20260101T000000Z-000000.partial"
    for folder in (left, others):
        folder.mkdir()
        (folder / "items.json").write_bytes(b"[]")
    remove_files(settings, TASK)
    assert sorted(path.name for path in model.iterdir()) == [others.name, ".work"]
    assert list((model / ".work").iterdir()) == []


def test_the_oldest_logs_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_files, "_LOGS", 2)
    logs = tmp_path / "logs"
    make_room_for_log(logs / "0.log")
    for number in range(4):
        write(logs / f"{number}.log", b"", float(number))
    make_room_for_log(logs / "4.log")
    assert sorted(path.name for path in logs.iterdir()) == ["2.log", "3.log"]


def test_a_task_is_left_by_who_has_died_on_this_host_and_by_nobody_else(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = TaskWork(settings, *OF_TASK)
    assert work.left_by_dead() is None
    with work.held(7) as held:
        assert work.left_by_dead() is None
        # A training that outlives its trainer for a moment.
        child = subprocess.Popen(["sleep", "60"], pass_fds=(held,))
    assert work.left_by_dead() is None
    child.kill()
    child.wait()
    assert work.left_by_dead() == 7
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert work.left_by_dead() is None
