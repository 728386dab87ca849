"""What a server makes do with that starts while Redis is away: the version that was live last.

Which one that was stands in a file beside the model's versions, `live.json`, for nobody else can be
asked. What Redis says, once it answers, counts.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec
from msgspec import Struct

from headrace.errors import ArtifactInvalid, HeadraceError, StoreUnavailable, VersionNotFound
from headrace.reports import write_json
from headrace.versions import VersionName
from serving.preparing import Loaded, Preparer

logger = logging.getLogger(__name__)

_FILE = "live.json"


class Noted(Struct, frozen=True):
    """What the file says."""

    model_id: str
    version: VersionName
    """That a server of this folder has served last, for it was live."""


class LastLive:
    """Keeps in mind on this machine what is live of a model."""

    def __init__(self, model_id: str, artifacts: Path, preparer: Preparer) -> None:
        """`artifacts`: the folder of all models' versions on this machine."""
        self._model_id = model_id
        self._path = artifacts / model_id / _FILE
        self._preparer = preparer
        self._noted: str | None = None
        self._tried = False

    async def load(self) -> Loaded | None:
        """Return the version that was live last, as it was trained; None where it cannot be had.

        It is tried once.
        """
        if self._tried:
            return None
        self._tried = True
        version = await asyncio.to_thread(self._read)
        if version is None:
            return None
        try:
            loaded = await self._preparer.prepare_alone(version)
        except (ArtifactInvalid, StoreUnavailable, VersionNotFound) as exc:
            logger.warning("version %s was live last, but cannot be served: %s", version, exc)
            return None
        logger.warning("version %s was live last; it serves while Redis is away", version)
        return loaded

    async def note(self, version: str) -> None:
        """Write down what is live, if that is another version than before."""
        if version != self._noted:
            # Tried once: what cannot be written now cannot be in a quarter of a second.
            self._noted = version
            await asyncio.to_thread(self._write, Noted(self._model_id, version))

    async def forget(self) -> None:
        """Say of no version that it was live: the model was deleted."""
        self._noted = None
        await asyncio.to_thread(self._delete)

    def _read(self) -> str | None:
        try:
            noted = msgspec.json.decode(self._path.read_bytes(), type=Noted)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
            logger.warning("%s does not say what was live last: %s", self._path, exc)
            return None
        return noted.version if noted.model_id == self._model_id else None

    def _write(self, noted: Noted) -> None:
        try:
            write_json(noted, self._path)
        # An OSError: not even what was written of it can be deleted. Many a server may not write
        # there, and is not meant to.
        except (HeadraceError, OSError) as exc:
            logger.info("a server started without Redis will have no version: %s", exc)

    def _delete(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        except OSError as exc:
            logger.warning("%s cannot be deleted: %s", self._path, exc)
