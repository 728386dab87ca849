"""The files below an address, as fsspec reaches them: an object store's, or any that it knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec  # type: ignore[import-untyped]

from headrace.errors import InvalidSetting, StoreUnavailable
from headrace.secrets import without_password
from headrace.setting_variables import variable_of
from headrace.settings import Settings

_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]*://")


class RemoteFiles:
    """Files and folders by the parts of their paths below the address.

    Every method blocks, and raises `StoreUnavailable` when the store does not answer, or not with
    what was asked for. It is never asked for a listing that it remembers.
    """

    def __init__(self, address: str) -> None:
        """Raises `InvalidSetting` for an address that no installed package can reach."""
        self._address = without_password(address)
        try:
            self._files, self._root = fsspec.url_to_fs(
                address, use_listings_cache=False, skip_instance_cache=True
            )
        except (ImportError, TypeError, ValueError) as exc:
            raise InvalidSetting(
                f"{variable_of(('artifacts',))} is {self._address!r}, which cannot be used: {exc}. "
                "For s3:// install `headrace[s3]`."
            ) from exc

    def folders(self, *below: str) -> list[str]:
        """Return the names of the folders in a folder; none of one that is not there."""
        return self._names("directory", *below)

    def files(self, *below: str) -> list[str]:
        """Return the names of the files in a folder; none of one that is not there."""
        return self._names("file", *below)

    def read(self, *path: str) -> bytes | None:
        """Return a file's bytes, None when it is not there."""
        with self._reached():
            try:
                return bytes(self._files.cat_file(self._path(*path)))
            except FileNotFoundError:
                return None

    def get(self, target: Path, *path: str) -> bool:
        """Fetch a file; return whether it is there."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._reached():
            try:
                self._files.get_file(self._path(*path), str(target))
            except FileNotFoundError:
                return False
        return True

    def put(self, source: Path, *path: str) -> None:
        """Bring a file there; an object store shows it whole or not at all."""
        with self._reached():
            self._files.put_file(str(source), self._path(*path))

    def delete(self, *path: str) -> None:
        """Delete a file, if it is there."""
        with self._reached(), suppress(FileNotFoundError):
            self._files.rm_file(self._path(*path))

    def delete_folder(self, *path: str) -> None:
        """Delete a folder and all in it, if it is there."""
        with self._reached(), suppress(FileNotFoundError):
            self._files.rm(self._path(*path), recursive=True)

    def _names(self, kind: str, *below: str) -> list[str]:
        with self._reached():
            try:
                rows: list[dict[str, Any]] = self._files.ls(self._path(*below), detail=True)
            except FileNotFoundError:
                return []
        return [PurePosixPath(row["name"]).name for row in rows if row["type"] == kind]

    def _path(self, *below: str) -> str:
        return "/".join((self._root.rstrip("/"), *below))

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except _errors_of_clients() as exc:
            raise StoreUnavailable(
                f"The artifacts at {self._address} cannot be reached: {exc}."
            ) from exc


def remote_artifacts(settings: Settings) -> RemoteFiles | None:
    """Return where the artifacts lie, None for a folder. Raises `InvalidSetting`."""
    return RemoteFiles(settings.artifacts) if _ADDRESS.match(settings.artifacts) else None


def local_artifacts(settings: Settings) -> Path:
    """Return the folder on this machine: the artifacts, or the cache of those fetched."""
    is_remote = _ADDRESS.match(settings.artifacts)
    return Path(settings.versions.cache if is_remote else settings.artifacts)


def _errors_of_clients() -> tuple[type[Exception], ...]:
    """Return what file systems and object stores' clients raise, of those that are installed."""
    try:
        from botocore.exceptions import (  # type: ignore[import-untyped]
            BotoCoreError,
            ClientError,
        )
    except ImportError:
        return (OSError,)
    return (OSError, BotoCoreError, ClientError)
