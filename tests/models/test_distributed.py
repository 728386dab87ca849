"""One training in two processes on one machine: the same loss curve, and one version."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from job_tools import clicks, job_of, serve
from kafka_tools import send_events
from parts import Part, eventually
from redis.asyncio import Redis
from task_tools import ask, fits, reaches

from headrace.local.ports import claim_port
from headrace.model_settings import ModelSettings
from headrace.settings import RetrainSettings, Settings, TrainerSettings
from headrace.task_files import version_of
from headrace.task_store import TaskStore
from headrace.topics import ensure_topics
from headrace.training_settings import TrainingSettings
from models.retrieval import load_artifact
from models.training.job import train
from models.training.job_messages import Job, Report

FEW = TrainingSettings(
    width=8,
    session_length=4,
    epochs=4,
    min_steps=40,
    final_epochs=1,
    # Replicas draw chances of their own.
    dropout=0.0,
    id_dropout=0.0,
)


@pytest.fixture
def tf_configs() -> list[str]:
    """TF_CONFIG of two processes on this machine."""
    ports = [claim_port(0, host="127.0.0.1", use="a test's cluster", option="") for _ in range(2)]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return [
        json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}})
        for number in range(2)
    ]


class Training:
    """The process of a job, as a trainer starts it."""

    def __init__(self, settings: Settings, job: Job, log: Path, tf_config: str = "") -> None:
        environ = {**os.environ, **settings.environ(), "TF_CONFIG": tf_config}
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                (sys.executable, "-m", "models.training.job"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environ,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        self._process.stdin.flush()

    def kill_after(self, epoch: int) -> None:
        """Kill it once it has told of this epoch."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if reports_of([line])[0].figures.get("epoch") == epoch:
                break
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def reports(self) -> list[Report]:
        """What it tells until it ends."""
        assert self._process.stdout is not None
        try:
            lines = self._process.stdout.readlines()
            assert self._process.wait(60) == 0, self._log.read_text()[-3_000:]
        finally:
            self.kill()
        return reports_of(lines)


def reports_of(lines: Sequence[bytes]) -> list[Report]:
    reports = [msgspec.json.decode(line, type=Report) for line in lines]
    assert not any(report.error for report in reports), reports[-1]
    return reports


def losses(reports: Sequence[Report]) -> list[float]:
    return [report.figures["loss"] for report in reports if "loss" in report.figures]


# Five times TensorFlow starts, which takes long where others are at work.
@pytest.mark.timeout(600)
def test_two_processes_have_the_loss_curve_of_one_also_when_killed_on_the_way(
    settings: Settings, tf_configs: Sequence[str], tmp_path: Path
) -> None:
    # At no low priority: others may be at work on this machine.
    trainer = TrainerSettings(lease_s=3_600.0, niceness=0)
    settings = msgspec.structs.replace(settings, training=FEW, trainer=trainer)
    ensure_topics(settings)
    send_events(settings, "clicks", clicks(0, 300))
    serve(settings, 0, 300)
    elsewhere = msgspec.structs.replace(settings, artifacts=str(tmp_path / "elsewhere"))
    job = job_of(settings, "20260101T000000Z-000001")
    together = msgspec.structs.replace(
        job, version="20260101T000000Z-000002", distributed=True, work=str(tmp_path / "work")
    )

    def start() -> tuple[Training, Training]:
        return (
            Training(settings, together, tmp_path / "chief.log", tf_configs[0]),
            Training(elsewhere, together, tmp_path / "worker.log", tf_configs[1]),
        )

    # Of the epoch that it tells of the checkpoint may not be written yet; of the first it is.
    chief, worker = start()
    try:
        chief.kill_after(epoch=2)
    finally:
        worker.kill()
    chief, worker = start()
    told, followed = chief.reports(), worker.reports()
    output = io.StringIO()
    train(settings, job, output)
    alone = reports_of(output.getvalue().encode().splitlines())

    assert len(losses(alone)) == 5
    assert len(losses(told)) in (3, 4)
    np.testing.assert_allclose(losses(told), losses(alone)[-len(losses(told)) :], rtol=1e-3)
    assert losses(followed) == losses(told)
    assert losses(alone)[-1] < losses(alone)[0] - 0.1
    # The chief alone writes, and its version is that of one process.
    assert not (tmp_path / "elsewhere").exists() or not [*tmp_path.glob("elsewhere/default/2*")]
    one, two = (
        load_artifact(Path(settings.artifacts) / "default" / each.version)
        for each in (job, together)
    )
    assert two.manifest.data == one.manifest.data
    np.testing.assert_allclose(two.item_vectors, one.item_vectors, atol=5e-3)


def process_in(settings: Settings, log: str) -> int:
    """The process that a stand-in's log names, 0 before it does."""
    path = Path(settings.artifacts) / "logs" / log
    found = re.findall(r"process (\d+)", path.read_text()) if path.exists() else []
    return int(found[-1]) if found else 0


async def test_the_chief_takes_tasks_and_the_others_follow_it(
    settings: Settings,
    redis: Redis,
    tf_configs: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes: dict[str, Any] = {
        "models": {"hangs": ModelSettings()},
        "trainer": TrainerSettings(lease_s=2.0, niceness=0),
        "retrain": RetrainSettings(every_events=0),
    }
    settings = msgspec.structs.replace(settings, **changes)
    ensure_topics(settings)
    tasks = TaskStore(redis, settings)

    def trainer(number: int) -> Part:
        monkeypatch.setenv("TF_CONFIG", tf_configs[number])
        folder = tmp_path / str(number)
        folder.mkdir()
        return Part("trainer --distributed", settings, folder, faults=["train_nothing"])

    with trainer(1) as worker:
        task = await ask(tasks, "hangs")

        async def follows() -> bool:
            return bool(await redis.keys(settings.key("heartbeat", "trainer", "*")))

        await eventually(follows, "the worker is well")
        # Without a chief nobody takes the task.
        assert (await tasks.get(task.id)).status == "QUEUED"
        with trainer(0) as chief:
            await fits(tasks, task)

            async def takes_part() -> bool:
                return "taking part" in worker.log()

            await eventually(takes_part, "the worker takes part")
            await tasks.cancel(task.id, now=0.0)
            await reaches(tasks, task, "CANCELLED")

            async def ends() -> bool:
                return "withdrawn" in worker.log()

            await eventually(ends, "the worker's part has ended")

            # What ended a part elsewhere is told, and the training tried again with the others.
            again = await ask(tasks, "hangs")

            async def both() -> int:
                await fits(tasks, again)
                return process_in(settings, f"{version_of(again)}.1.log")

            await eventually(both, "the worker takes part again")
            os.kill(await both(), signal.SIGKILL)

            async def is_told() -> bool:
                return "process 1 of the training: The training was ended by" in chief.log()

            await eventually(is_told, "the chief knows what ended the worker's part")
            assert (await tasks.get(again.id)).status == "RUNNING"
            await tasks.cancel(again.id, now=0.0)
            await reaches(tasks, again, "CANCELLED")
            assert worker.runs
            assert chief.runs
