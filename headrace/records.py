"""Records of Kafka, many at a time: their values, and columns of what stands beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Records:
    """n records of one topic."""

    values: Sequence[bytes | None]
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    time: NDArray[np.int64]
    """The records' own, in Unix milliseconds."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Batch:
    """Some records of the log, and whose they are."""

    topic: str
    """Without the prefix."""
    topic_id: str
    """The broker's; a topic that was made anew has another, and its offsets begin again."""
    records: Records
