"""How long the model's part of a request takes: tower, index, rules, seen items, calibration.

Run as a process: `python -m serving.bench.model_part FOLDER CALLS`, the folder being a version's.
It writes a `ModelPart` as JSON.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from headrace.sessions import Session
from models.retrieval.artifact import load_artifact
from models.retrieval.retriever import Retriever
from serving.bench.ground import CLUSTER, INTERACTIONS

_WARM_UP = 50
_K = 11
"""Items of a list of ten, and one that tells whether there is another page."""


class ModelPart(Struct, frozen=True):
    """Of one request after the other, on one thread."""

    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """Of processor time, on average."""


def measure(folder: Path, calls: int) -> ModelPart:
    """Load a version and ask it for sessions of its items. Raises `ArtifactInvalid`."""
    retriever = Retriever(load_artifact(folder))
    rng = np.random.default_rng(1)
    sessions = [_session(rng, retriever.manifest.data.items) for _ in range(calls + _WARM_UP)]
    for session in sessions[:_WARM_UP]:
        retriever.recommend(session, _K, exclude=session.item_ids)
    seconds, cpu = [], time.process_time()
    for session in sessions[_WARM_UP:]:
        began = time.perf_counter()
        retriever.recommend(session, _K, exclude=session.item_ids)
        seconds.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    p50, p99 = (1000 * np.percentile(seconds, (50, 99))).tolist()
    return ModelPart(p50, p99, 1000 * cpu / calls)


def _session(rng: np.random.Generator, items: int) -> Session:
    first = CLUSTER * int(rng.integers(items // CLUSTER))
    numbers = first + rng.permutation(CLUSTER)[:INTERACTIONS]
    return Session(
        item_ids=tuple(f"item-{number:07}" for number in numbers),
        timestamps=tuple(1.7e9 + np.cumsum(rng.exponential(300.0, INTERACTIONS))),
        kinds=("click",) * INTERACTIONS,
        ratings=(None,) * INTERACTIONS,
    )


def main(folder: str, calls: str) -> None:
    """Measure, and write what it came to."""
    found = measure(Path(folder), int(calls))
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
