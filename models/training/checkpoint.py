"""Checkpoints of a training: what a process that was killed goes on from.

One file for each stage, in the folder that the task has for its work. A file is written aside and
renamed, so it is there whole or not at all; it names what it was made from, and a training of other
data or parameters passes it over. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.training.arrays import Arrays, read_arrays, write_arrays
from models.training.parameters import Parameters

logger = logging.getLogger(__name__)

_MADE_FROM = "made_from"


@dataclass(frozen=True)
class Checkpoint:
    """The newest state of one stage of a training; without a path nothing is kept."""

    path: Path | None
    made_from: str
    """Fingerprint of data and parameters."""

    def load(self) -> Arrays | None:
        """Return what was saved last, None for nothing that can be gone on from."""
        if self.path is None or not self.path.exists():
            return None
        try:
            state = read_arrays(self.path)
        except (OSError, ValueError) as exc:
            logger.warning("checkpoint %s is passed over: %s", self.path.name, exc)
            return None
        if str(state.pop(_MADE_FROM, "")) != self.made_from:
            logger.warning("checkpoint %s is of another training", self.path.name)
            return None
        return state

    def save(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Keep this state in place of the one before."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(self.path, {**state, _MADE_FROM: np.array(self.made_from)})


NO_CHECKPOINT = Checkpoint(None, "")


@dataclass(frozen=True)
class Work:
    """A training's folder for checkpoints."""

    folder: Path | None
    made_from: str = ""

    @classmethod
    def of(
        cls, folder: Path | None, fingerprint: str, parameters: Parameters, base: str = ""
    ) -> Work:
        """Return the work of a training on data of this fingerprint.

        `base`: the version that it goes on from; none: "".
        """
        made_from = msgspec.json.encode((fingerprint, base, parameters))
        return cls(folder, hashlib.sha256(made_from).hexdigest())

    def stage(self, name: str) -> Checkpoint:
        """Return the checkpoint of the stage of this name."""
        path = None if self.folder is None else self.folder / f"{name}.npz"
        return Checkpoint(path, self.made_from)


NO_WORK = Work(None)


def arrays(state: Mapping[str, NDArray[Any]], prefix: str) -> list[NDArray[Any]]:
    """Return the arrays whose names begin with this, in the order of names."""
    return [state[name] for name in sorted(state) if name.startswith(prefix)]
