"""Files of events that were sent to be trained on: they lie where the versions lie.

So any trainer can read them that shares `artifacts` with the server, be it a folder or an object
store, from which a trainer fetches a file for as long as it reads it.
"""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from headrace.errors import DataUnavailable
from headrace.remote_files import local_artifacts, remote_artifacts
from headrace.settings import Settings
from headrace.training_data import DataFile

_FOLDER = ".uploads"
"""Among the artifacts; no model's id begins with a dot."""
_ASIDE = ".partial"
"""Ends the name of a folder in which a file is written, or fetched; a killed process leaves it."""
_CHUNK = 1 << 20


class Uploads:
    """The files of all tasks, by name. Every method blocks, and may raise `StoreUnavailable`."""

    def __init__(self, settings: Settings) -> None:
        """Raises `InvalidSetting` for an address that no installed package can reach."""
        self._remote = remote_artifacts(settings)
        self._folder = local_artifacts(settings) / _FOLDER

    def keep(self, source: BinaryIO, name: str) -> tuple[int, str]:
        """Keep a file, whole or not at all; return its length in bytes and its sha256.

        Raises `OSError`.
        """
        aside = self._aside(name)
        try:
            aside.mkdir(parents=True, exist_ok=True)
            kept = _copy(source, aside / name)
            if self._remote is None:
                (aside / name).rename(self._folder / name)
            else:
                self._remote.put(aside / name, _FOLDER, name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return kept

    @contextmanager
    def fetched(self, data: DataFile) -> Iterator[Path]:
        """Give the file on this machine, as it was sent, until the block ends.

        Raises `DataUnavailable` for one that is gone or another one by now.
        """
        aside = self._aside(data.name)
        path = self._folder / data.name if self._remote is None else aside / data.name
        try:
            if self._remote is not None and not self._remote.get(path, _FOLDER, data.name):
                raise FileNotFoundError(data.name)
            if _digest(path) != data.sha256:
                raise DataUnavailable(f"{_named(data)} is not as it was sent; send it again.")
            yield path
        except FileNotFoundError as exc:
            raise DataUnavailable(f"{_named(data)} is gone; send it again.") from exc
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def names(self) -> list[str]:
        """Return which files there are, cut off ones too; a name begins with its task's id."""
        if self._remote is None:
            whole = [path.name for path in self._folder.glob("[!.]*")]
        else:
            whole = self._remote.files(_FOLDER)
        asides = (path.name[1 : -len(_ASIDE)] for path in self._folder.glob(f".*{_ASIDE}"))
        cut_off = [aside.rpartition(".")[0] for aside in asides]
        return sorted({*whole, *cut_off})

    def remove(self, name: str) -> None:
        """Delete a file, if it is there, and what was cut off of it."""
        for aside in self._folder.glob(f".{glob.escape(name)}.*{_ASIDE}"):
            shutil.rmtree(aside, ignore_errors=True)
        if self._remote is None:
            (self._folder / name).unlink(missing_ok=True)
        else:
            self._remote.delete(_FOLDER, name)

    def _aside(self, name: str) -> Path:
        # Another one each time: processes of one machine may fetch the same file at once. A
        # server's, in its cache, is cleared away with what was cut off of versions.
        return self._folder / f".{name}.{secrets.token_hex(4)}{_ASIDE}"


def _named(data: DataFile) -> str:
    return f"The file of events {data.name}"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _copy(source: BinaryIO, path: Path) -> tuple[int, str]:
    """Copy a file; return its length in bytes and its sha256."""
    digest, size = hashlib.sha256(), 0
    source.seek(0)
    with path.open("wb") as target:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return size, digest.hexdigest()
