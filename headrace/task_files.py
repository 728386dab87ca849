"""What lies on disk for a task while it runs: its work, and the file that it trains on."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from headrace.errors import StoreUnavailable
from headrace.remote_files import local_artifacts, remote_artifacts
from headrace.settings import Settings
from headrace.tasks import Task
from headrace.training_data import DataFile, kept_file
from headrace.uploads import Uploads
from headrace.versions import partial_folder, version_name

logger = logging.getLogger(__name__)

_WORK = ".work"
"""Beside a model's versions, whose names begin with a digit."""
_HOLDER = "holder"
"""In a task's work: on which host the process is that holds the task, and under which number. It is
locked for as long as that process lives, or one of its own that works at the task."""
_LOGS = 1_000
"""As many as there are tasks to be looked at."""


class TaskWork:
    """What a task's training keeps so that a later attempt goes on from it.

    Where versions lie in an object store it is there, too, so that the attempt may be another
    machine's. Every method blocks; all but `remove` raise `StoreUnavailable`.
    """

    def __init__(self, settings: Settings, model_id: str, task_id: str) -> None:
        self._path = (model_id, _WORK, task_id)
        self._remote = remote_artifacts(settings)
        self._there: dict[str, int] = {}
        """By file, when that which is in the object store was written, in nanoseconds."""
        self.folder = local_artifacts(settings).joinpath(*self._path)

    def fetch(self) -> None:
        """Make the folder, with what an attempt on another machine left for this one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self._remote.files(*self._path) if self._remote else ():
            aside = self.folder / f"{name}.fetched"
            if self._remote and self._remote.get(aside, *self._path, name):
                aside.replace(self.folder / name)
                self._there[name] = _written_at(self.folder / name)

    def share(self) -> None:
        """Bring to the object store what is newer here, the oldest first."""
        if self._remote is None:
            return
        for path in sorted(self.folder.glob("*.npz"), key=_written_at):
            written_at = _written_at(path)
            if self._there.get(path.name) != written_at:
                self._remote.put(path, *self._path, path.name)
                self._there[path.name] = written_at

    @contextlib.contextmanager
    def held(self, number: int) -> Iterator[int]:
        """Have it known on this host that the task is held under this number of its claim.

        Yields the file descriptor that a process which is to count as a holder, too, inherits.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _HOLDER).open("w") as file:
            # Where nothing can be locked, or one that hung holds it still, the lease alone tells.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.write(f"{socket.gethostname()} {number}")
                file.flush()
            yield file.fileno()

    def left_by_dead(self) -> int | None:
        """Return the number under which processes of this host held the task that have died since.

        None where they live, and where the task was held on another host, or on none.
        """
        try:
            with (self.folder / _HOLDER).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                host, _, number = file.read().partition(" ")
        except OSError:
            return None
        return int(number) if host == socket.gethostname() and number.isdecimal() else None

    def remove(self) -> None:
        """Delete it, here and there: the task has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            # A server may look, though it may not delete.
            if self._remote is not None and self._remote.files(*self._path):
                self._remote.delete_folder(*self._path)
        except StoreUnavailable as exc:
            logger.warning("the checkpoints in %s stay: %s", "/".join(self._path), exc)


def kept_work(settings: Settings) -> set[tuple[str, str]]:
    """Return of which tasks, by model and id, there is work, here or in the object store. Blocks.

    Raises `StoreUnavailable`.
    """
    folders = local_artifacts(settings).glob(f"*/{_WORK}/*")
    found = {(folder.parent.parent.name, folder.name) for folder in folders}
    if remote := remote_artifacts(settings):
        found |= {
            (model_id, task_id)
            for model_id in remote.folders()
            for task_id in remote.folders(model_id, _WORK)
        }
    return found


def version_of(task: Task) -> str:
    """Return the name of the version that the task makes, the same for every attempt at it."""
    return version_name(task.created_at, task.id[:6])


def log_file(settings: Settings, task: Task) -> Path:
    """Return the file of the log of the task's training, on the trainer's machine."""
    return local_artifacts(settings) / "logs" / f"{task.id}.log"


def make_room_for_log(log: Path) -> None:
    """Make a log's folder, and delete the oldest ones of those that are too many in it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    newest_first = sorted(log.parent.glob("*.log"), key=_written_at, reverse=True)
    for old in newest_first[_LOGS:]:
        old.unlink(missing_ok=True)


def data_file(task: Task) -> DataFile | None:
    """Return the file that the task trains on instead of the topics, if it has one."""
    return kept_file(task.params.get("data"))


def remove_files(settings: Settings, task: Task) -> None:
    """Delete what a task that has ended needs no more. Blocks."""
    TaskWork(settings, task.model_id, task.id).remove()
    made = local_artifacts(settings) / task.model_id / version_of(task)
    shutil.rmtree(partial_folder(made), ignore_errors=True)
    data = data_file(task)
    if data is not None:
        try:
            Uploads(settings).remove(data.name)
        except StoreUnavailable as exc:
            logger.warning("the file that task %s trained on stays: %s", task.id, exc)


def _written_at(path: Path) -> int:
    return path.stat().st_mtime_ns
