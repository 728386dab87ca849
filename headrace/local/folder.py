"""The data folder of a stack: its lock, its state file, its key, and a place for each part."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from headrace.errors import StackError
from headrace.local import DEFAULT_DATA
from headrace.local.parts import PartStatus
from headrace.settings import Settings
from headrace.settings_source import load_settings

_NEEDED_BYTES = 200_000_000
"""Free space without which a stack is not started: a model version and the log of Redis."""
_LOCK_TRIES = 5
_LOCK_PAUSE_S = 0.05


class StackState(Struct, frozen=True, kw_only=True):
    """What `stack.json` says of the stack that runs."""

    pid: int
    """Of the supervisor."""
    started_at: float
    """Unix seconds."""
    ready: bool
    """Every part has been ready."""
    variables: dict[str, str]
    """The settings of the parts."""
    parts: list[PartStatus]

    @property
    def settings(self) -> Settings:
        """The settings of the parts."""
        return load_settings(self.variables)


class DataFolder:
    """The folder in which a stack keeps what outlives it. One stack at a time holds it."""

    def __init__(self, root: Path, *, needed_bytes: int = _NEEDED_BYTES) -> None:
        self.root = root.absolute()
        self._needed_bytes = needed_bytes
        self.redis = self.root / "redis"
        self.kafka = self.root / "kafka"
        self.artifacts = self.root / "artifacts"
        self.archive = self.root / "archive"
        self.logs = self.root / "logs"
        self._state = self.root / "stack.json"
        self._lock_path = self.root / "lock"
        self._lock: int | None = None

    @property
    def flag(self) -> str:
        """What a command needs after its name to mean this folder: ` --data FOLDER`, or nothing."""
        is_default = self.root == DEFAULT_DATA.absolute()
        return "" if is_default else f" --data {shlex.quote(str(self.root))}"

    def take(self) -> None:
        """Make the folder and hold it until `release` or the end of this process.

        Raises `StackError` when another stack holds it, it cannot be written, or its disk is full.
        """
        self.make()
        self._check_space()
        with self.writing():
            self._acquire()
            self._state.unlink(missing_ok=True)

    def make(self) -> None:
        """Make the folder. Raises `StackError` when it cannot be written."""
        with self.writing():
            for folder in (self.redis, self.artifacts, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            # Whatever version control the folder lies in need not see it.
            (self.root / ".gitignore").write_text("*\n", encoding="utf-8")

    def held_message(self) -> str:
        """Return what to tell a user who wants a second stack on this folder."""
        return (
            f"A stack already runs on {self.root}; see it with `headrace status{self.flag}`, "
            f"end it with `headrace down{self.flag}`, or choose another folder with --data."
        )

    def release(self) -> None:
        """Let another stack have the folder."""
        if self._lock is None:
            return
        self._state.unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None

    def is_held(self) -> bool:
        """Return whether a stack holds the folder."""
        try:
            lock = os.open(self._lock_path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def read(self) -> StackState | None:
        """Return the state of the stack that runs; None when none does, or it only just begins."""
        if not self.is_held():
            return None
        try:
            return msgspec.json.decode(self._state.read_bytes(), type=StackState)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as exc:
            raise StackError(f"{self._state} cannot be read: {exc}.") from exc

    def write(self, state: StackState) -> None:
        """Store the state of the stack. Raises `StackError` when the disk does not take it."""
        with self.writing():
            aside = self._state.with_suffix(".new")
            _write_private(aside, msgspec.json.format(msgspec.json.encode(state)))
            aside.replace(self._state)

    def api_key(self) -> str:
        """Return the key of this folder's server, made at the first call."""
        path = self.root / "api-key"
        with self.writing():
            if not path.exists():
                _write_private(path, secrets.token_urlsafe(24).encode())
            return path.read_text(encoding="utf-8").strip()

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.root).free
        if free < self._needed_bytes:
            raise StackError(
                f"The disk of {self.root} has {free / 1e6:.0f} MB left and the stack needs "
                f"{self._needed_bytes / 1e6:.0f}; free some, or choose another folder with --data."
            )

    def _acquire(self) -> None:
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        for attempt in range(_LOCK_TRIES):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # `is_held`, too, holds it for a moment.
                if attempt + 1 < _LOCK_TRIES:
                    time.sleep(_LOCK_PAUSE_S)
        else:
            os.close(lock)
            raise StackError(self.held_message())
        self._lock = lock

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn the disk's refusals in this block into `StackError`."""
        try:
            yield
        except OSError as exc:
            raise StackError(
                f"{exc.filename or self.root} cannot be written: {exc.strerror}. "
                "Make room or give yourself the right to, or choose another folder with --data."
            ) from exc


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
