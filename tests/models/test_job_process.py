"""The process of a training: what is said when it ends unsaid, and what it leaves and renews."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from task_tools import ask

from headrace.errors import Away
from headrace.producer import Producer
from headrace.settings import Settings, TrainerSettings
from headrace.task_store import TaskStore
from headrace.training_requests import TrainingRequest
from headrace.version_store import VersionStore
from headrace.versions import version_name
from models.training import job_process
from models.training.job import Teller
from models.training.job_messages import Job, Report
from models.training.job_process import JobCrashed, JobProcess, LeftAlone
from models.training.runner import Runner, TaskCancelled

NOW = 1_704_060_026.0
VERSION = version_name(NOW, "00000a")


async def test_a_job_that_finds_something_away_says_that_another_attempt_may_do_better(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report(step="failed", fraction=1.0, error="the store is away", is_away=True)
    says = f"import sys; sys.stdin.readline(); print({msgspec.json.encode(report).decode()!r})"
    monkeypatch.setattr(job_process, "JOB", (sys.executable, "-c", says))

    job = Job(model_id="default", version=VERSION, created_at=NOW, work=str(tmp_path))
    with pytest.raises(Away, match="the store is away"):
        await JobProcess(settings, tmp_path / "log", note=nothing, hold=nothing).run(job)


def test_the_log_tells_each_step_once_and_all_figures(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = io.StringIO()
    tell = Teller(told)
    for step, fraction in (("read", 0.1), ("read", 0.2), ("export", 0.9)):
        tell(Report(step=step, fraction=fraction))
    for epoch in (1, 2):
        tell(Report(step="fit", fraction=0.5, figures={"epoch": epoch, "loss": 1.5}))
    assert [record.message for record in caplog.records] == [
        "read", "export", "fit, epoch 1, loss 1.5", "fit, epoch 2, loss 1.5",
    ]  # fmt: skip
    assert len(told.getvalue().splitlines()) == 5


async def nothing(*_: object) -> None:
    """Nothing is stored."""


@pytest.mark.parametrize(
    ("program", "words", "killed"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9. So the kernel ends", True),
        ("raise SystemExit('no')", "ended with status 1. `headrace tasks TASK --log` shows", False),
    ],
)
async def test_a_training_that_ended_unsaid_says_what_to_do(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    words: str,
    killed: bool,
) -> None:
    monkeypatch.setattr(job_process, "JOB", (sys.executable, "-c", program))
    job = Job(model_id="default", version=VERSION, created_at=NOW, work=str(tmp_path))
    with pytest.raises(JobCrashed, match=words) as caught:
        await JobProcess(settings, tmp_path / "log", note=nothing, hold=nothing).run(job)
    assert caught.value.killed is killed


async def test_what_a_training_leaves_in_the_temporary_folder_goes_with_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is killed, as here by a lease that is lost."""
    leaves = (
        "import sys, tempfile, time; sys.stdin.readline();"
        "print(tempfile.NamedTemporaryFile(delete=False).name, file=sys.stderr, flush=True);"
        "time.sleep(600)"
    )
    monkeypatch.setattr(job_process, "JOB", (sys.executable, "-c", leaves))
    work, log = tmp_path / "work", tmp_path / "log"
    work.mkdir()
    left: list[Path] = []

    async def note(_: Report) -> None:
        """Nothing is stored."""

    async def hold() -> None:
        if name := log.read_text().strip():
            left.append(Path(name))
            assert left[0].is_file()
            raise TaskCancelled

    job = Job(model_id="default", version=VERSION, created_at=NOW, work=str(work))
    with pytest.raises(TaskCancelled):
        await JobProcess(settings, log, note=note, hold=hold).run(job)
    assert left[0].parent.parent == work
    assert not left[0].exists()
    assert list(work.iterdir()) == []


async def test_the_lease_is_renewed_while_a_step_takes_long(
    settings: Settings, redis: Redis
) -> None:
    """As fetching what another machine has left may."""
    short = msgspec.structs.replace(settings, trainer=TrainerSettings(lease_s=0.3))
    tasks, producer = TaskStore(redis, short), Producer(short)
    await ask(tasks, "default")
    claim = await tasks.claim(now=NOW)
    assert claim is not None
    runner = Runner(short, tasks, VersionStore(redis, short, producer), claim, lambda: NOW)
    await runner._while_held(asyncio.sleep(1.0))
    assert await tasks.claim(now=NOW) is None
    await tasks.cancel(claim.task.id, now=NOW)
    with pytest.raises(TaskCancelled):
        await runner._while_held(asyncio.sleep(60))
    await producer.close()


async def test_a_training_ends_before_a_lease_that_cannot_be_renewed_is_anothers(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Path(__file__).with_name("stand_in_job.py")
    monkeypatch.setattr(job_process, "JOB", (sys.executable, str(program)))
    short = msgspec.structs.replace(settings, trainer=TrainerSettings(lease_s=1.0, niceness=0))

    async def note(report: Report) -> None:
        """Nothing is stored."""

    async def hold() -> None:
        raise RedisConnectionError("away")

    job = Job(
        model_id="hangs",
        version=VERSION,
        created_at=NOW,
        request=TrainingRequest(),
        through={},
        topic_ids={},
        work=str(tmp_path),
    )
    with pytest.raises(LeftAlone):
        await JobProcess(short, tmp_path / "log", note=note, hold=hold).run(job)
