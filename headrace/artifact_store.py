"""Where model versions are kept: a folder, or an object store behind fsspec.

In an object store a version's manifest is written last and deleted first, so that a version is
there whole or not at all. Who needs its files fetches them into a cache on its own disk.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

import msgspec

from headrace.errors import ArtifactInvalid, StoreUnavailable, VersionNotFound
from headrace.model_settings import ModelId
from headrace.remote_files import RemoteFiles, local_artifacts, remote_artifacts
from headrace.settings import Settings
from headrace.versions import (
    MANIFEST,
    SIGNATURE,
    Check,
    Manifest,
    is_version_name,
    read_manifest,
    read_manifests,
    version_folder,
)

logger = logging.getLogger(__name__)

_DAMAGED = (msgspec.DecodeError, UnicodeDecodeError)

_ASIDE_S = 24 * 3600.0
"""What has lain aside for so long, was being fetched by a process that was killed."""
_IN_USE_S = 600.0
"""A version that was fetched no longer ago may still be read, by another thread or process."""


class ArtifactStore:
    """The versions of all models.

    Every method blocks. Those that ask an object store raise `StoreUnavailable` when it does not
    answer, or not with what was asked for; what is wrong with a version's name is
    `VersionNotFound`.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        """Raises `InvalidSetting` for an address that no installed package can reach."""
        self._clock = clock
        self._remote = remote_artifacts(settings)
        self._cache_limit = settings.versions.cache_limit
        self.local = local_artifacts(settings)
        """The folder on this machine: the versions themselves, or the cache of those fetched, in
        which a trainer also writes new ones."""

    def versions(self, model_id: str) -> list[str]:
        """Return the names of the model's versions, newest first."""
        names = self._remote.folders(model_id) if self._remote else _names(self.local / model_id)
        return sorted(filter(is_version_name, names), reverse=True)

    def cut_off(self, model_id: str) -> list[str]:
        """Return of which versions there are files without a manifest: nobody brought it there.

        As long as a version is being brought there it is among them. In a folder none ever is.
        """
        remote = self._remote
        if remote is None:
            return []
        return [v for v in self.versions(model_id) if MANIFEST not in remote.files(model_id, v)]

    def models(self) -> list[str]:
        """Return the names of the folders in which a model's versions may lie."""
        names = self._remote.folders() if self._remote else _names(self.local)
        return sorted(filter(_is_model_id, names))

    def manifests(self, model_id: str) -> list[Manifest]:
        """Return the manifests of the model's versions, newest first; a damaged one is left out."""
        if self._remote is None:
            return read_manifests(self.local, model_id)
        found = (self._read_manifest(model_id, version) for version in self.versions(model_id))
        return [manifest for manifest in found if manifest is not None]

    def manifest(self, model_id: str, version: str) -> Manifest | None:
        """Return a version's manifest, None when there is none that can be read.

        Raises `VersionNotFound` for a name that is none.
        """
        folder = version_folder(self.local, model_id, version)
        if self._remote is not None:
            return self._read_manifest(model_id, version)
        try:
            return read_manifest(folder)
        except _DAMAGED:
            return None

    def fetch(self, model_id: str, version: str, check: Check = lambda *_: None) -> Path:
        """Return the folder of a version on this machine, fetching its files first if need be.

        `check` is asked before any of them is fetched over the network. The files are not checked
        yet. Raises `VersionNotFound`, and `ArtifactInvalid` for a manifest that cannot be read.
        """
        folder = version_folder(self.local, model_id, version)
        if self._remote is None:
            if not folder.is_dir():
                raise VersionNotFound(f"Model {model_id} has no version {version}.")
            return folder
        manifest = self._remote.read(model_id, version, MANIFEST)
        if manifest is None:
            raise VersionNotFound(f"Model {model_id} has no version {version}.")
        signature = self._remote.read(model_id, version, SIGNATURE)
        check(manifest, signature)
        self._touch(folder)
        if _read_if_there(folder / MANIFEST) != manifest:
            _fetch(self._remote, folder, manifest, signature)
            self._touch(folder)
        self._prune(model_id)
        return folder

    def put(self, folder: Path) -> None:
        """Bring a version that was written to `local` to where the others are."""
        if self._remote is not None:
            _put(self._remote, folder)
            self._touch(folder)
            self._prune(folder.parent.name)

    def discard(self, model_id: str, version: str) -> None:
        """Forget what was fetched of a version: it turned out to be damaged.

        Raises `StoreUnavailable` where it was taken away while it was read, which says nothing of
        it.
        """
        if self._remote is None:
            return
        folder = version_folder(self.local, model_id, version)
        is_there = (folder / MANIFEST).exists()
        _delete_folder(folder)
        if not is_there:
            raise StoreUnavailable(
                f"Version {version} was taken out of the cache {self.local} while it was read; it "
                "is fetched again at the next try."
            )

    def delete(self, model_id: str, version: str) -> None:
        """Delete a version's files, if they are there."""
        if self._remote is not None:
            # The manifest first: what is left of it is no version.
            self._remote.delete(model_id, version, MANIFEST)
            self._remote.delete_folder(model_id, version)
        _delete_folder(version_folder(self.local, model_id, version))

    def _read_manifest(self, model_id: str, version: str) -> Manifest | None:
        raw = self._remote.read(model_id, version, MANIFEST) if self._remote else None
        try:
            return None if raw is None else msgspec.json.decode(raw, type=Manifest)
        except _DAMAGED as exc:
            logger.warning("version %s has no manifest that can be read: %s", version, exc)
            return None

    def _touch(self, folder: Path) -> None:
        """Note that a folder of the cache, if it is there, is in use."""
        now = self._clock()
        with suppress(FileNotFoundError):
            os.utime(folder, (now, now))

    def _prune(self, model_id: str) -> None:
        """Delete the model's versions used longest ago from the cache, down to its limit.

        Those that may be in use stay, however many they are.
        """
        now = self._clock()
        for aside in self.local.glob("*/.*.partial"):
            if _last_used(aside) < now - _ASIDE_S:
                shutil.rmtree(aside, ignore_errors=True)
        found = [path for path in self.local.glob(f"{model_id}/*") if is_version_name(path.name)]
        oldest = sorted(found, key=_last_used)
        for folder in oldest[: max(0, len(found) - self._cache_limit)]:
            if _last_used(folder) < now - _IN_USE_S:
                _delete_folder(folder)


def _put(remote: RemoteFiles, folder: Path) -> None:
    """Upload a version's files, the manifest last."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for name in sorted(names, key=lambda name: (name == MANIFEST, name)):
        remote.put(folder / name, folder.parent.name, folder.name, name)


def _fetch(remote: RemoteFiles, folder: Path, manifest: bytes, signature: bytes | None) -> None:
    """Fetch a version's files aside and let them appear together."""
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    aside.mkdir(parents=True)
    try:
        for name in _file_names(folder.name, manifest):
            if not remote.get(aside / name, folder.parent.name, folder.name, name):
                raise ArtifactInvalid(
                    f"Version {folder.name}: {name} is listed in the manifest but is not there; "
                    "train again."
                )
        if signature is not None:
            (aside / SIGNATURE).write_bytes(signature)
        (aside / MANIFEST).write_bytes(manifest)
        try:
            aside.rename(folder)
        except OSError:
            # It stands there. Another thread or process that fetched the same one may read it by
            # now; only one that was replaced under its name, or what is left of one, gives way.
            if _read_if_there(folder / MANIFEST) != manifest:
                _delete_folder(folder)
                aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _file_names(version: str, raw: bytes) -> list[str]:
    """Return the files that a manifest lists.

    Raises `ArtifactInvalid` for a manifest that cannot be read, and for a path that leads out.
    """
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except _DAMAGED as exc:
        raise ArtifactInvalid(f"Version {version}: {MANIFEST} {exc}; train again.") from exc
    for name in manifest.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ArtifactInvalid(
                f"Version {version}: {MANIFEST} lists {name!r}, which leads out of the version's "
                "folder; train again."
            )
    return list(manifest.files)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _is_model_id(name: str) -> bool:
    try:
        msgspec.convert(name, ModelId)
    except msgspec.ValidationError:
        return False
    return True


def _read_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _delete_folder(folder: Path) -> None:
    """Delete a folder, its manifest first: what is left of it is no version."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
