"""Which of many events count: those of erased users from before the erasure do not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.erasures import Erasure, Erasures


def not_erased(
    erasures: Erasures,
    topic: str,
    topic_id: str,
    user_id: pa.StringArray,
    partition: NDArray[np.int32],
    offset: NDArray[np.int64],
    time: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return `[m]`: of each of m events of one topic, whether it counts; see `Erasure.covers`.

    `time`: the records' own, in Unix milliseconds.
    """
    counts = np.ones(len(user_id), np.bool_)
    if not erasures or not len(user_id):
        return counts
    erased = list(erasures.by_user)
    found = pc.index_in(user_id, pa.array(erased, pa.string()))
    rows = np.flatnonzero(pc.is_valid(found).to_numpy(zero_copy_only=False))
    if not len(rows):
        return counts
    present, who = np.unique(found.take(pa.array(rows)).to_numpy(), return_inverse=True)
    of_user = [erasures.by_user[erased[number]] for number in present.tolist()]
    same = np.array([each.topic_ids.get(topic) == topic_id for each in of_user])
    at_ms = np.array([each.at * 1000 for each in of_user])
    numbers, place = np.unique(partition[rows], return_inverse=True)
    counts[rows] = np.where(
        same[who],
        offset[rows] >= _ends(of_user, topic, numbers)[who, place],
        time[rows] > at_ms[who],
    )
    return counts


def _ends(erasures: list[Erasure], topic: str, partitions: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return `[erasures, partitions]`: how far the topic's partitions had come, exclusive."""
    numbers = partitions.tolist()
    return np.array([[each.end(topic, number) for number in numbers] for each in erasures])
