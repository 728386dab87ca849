"""The item index: which items' vectors have the largest dot product with a query vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.retrieval.scann_import import scann_bindings

SCANN_FROM_ITEMS = 20_000
"""Above this many items ScaNN answers sooner than one matrix product over all of them."""

_REORDERED = 200
"""Candidates whose exact dot product ScaNN computes, at the least."""
_LEAVES_SEARCHED = 0.1
"""Share of ScaNN's leaves that a query visits: finds 0.95 of the exact top 10 among 100,000."""
_LEAST_LEAVES_SEARCHED = 32
"""Fewer lose more of the top 10 than the time they save is worth."""
_POINTS_TO_TRAIN = 250_000
"""Vectors from which ScaNN learns its partitions."""


class ItemIndex(Protocol):
    """Items by position. A position keeps its meaning for the index's lifetime."""

    def search(
        self, query: NDArray[np.float32], k: int, exclude: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the positions and dot products of the k best items, best first.

        `query`: `[width]`. `exclude`: positions not wanted. Fewer than k when there are no more.
        """

    def upsert(self, positions: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Put items in, `[n, width]`, or replace their vectors. New positions come in order."""

    def remove(self, positions: NDArray[np.int64]) -> None:
        """Take items out; one that is not in is no error."""


class ExactIndex:
    """One matrix product over all items."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """Index `[n, width]` vectors as positions 0 to n - 1."""
        self._vectors = np.array(vectors, np.float32, order="C")
        self._present = np.ones(len(vectors), np.bool_)

    def search(
        self, query: NDArray[np.float32], k: int, exclude: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `ItemIndex.search`."""
        scores = np.where(self._present, self._vectors @ query, -np.inf)
        scores[exclude[exclude < len(scores)]] = -np.inf
        k = min(k, len(scores))
        best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
        best = best[np.argsort(-scores[best], kind="stable")]
        best = best[scores[best] > -np.inf]
        return best, scores[best].astype(np.float32, copy=False)

    def upsert(self, positions: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See `ItemIndex.upsert`."""
        missing = int(positions.max(initial=-1)) + 1 - len(self._vectors)
        if missing > 0:
            width = self._vectors.shape[1]
            self._vectors = np.concatenate([self._vectors, np.zeros((missing, width), np.float32)])
            self._present = np.concatenate([self._present, np.zeros(missing, np.bool_)])
        self._vectors[positions] = vectors
        self._present[positions] = True

    def remove(self, positions: NDArray[np.int64]) -> None:
        """See `ItemIndex.remove`."""
        self._present[positions[positions < len(self._present)]] = False


class ScannIndex:
    """ScaNN (Guo et al., 2020): partitions, quantised scores, the best scored again exactly."""

    def __init__(self, searcher: Any) -> None:
        """Wrap a ScaNN searcher; `build` and `load` make one."""
        self._searcher = searcher

    @classmethod
    def build(cls, vectors: NDArray[np.float32]) -> ScannIndex:
        """Index `[n, width]` vectors as positions 0 to n - 1; n of some thousands at the least."""
        leaves = max(1, int(np.sqrt(len(vectors))))
        searcher = (
            scann_bindings()
            .builder(np.ascontiguousarray(vectors, np.float32), 10, "dot_product")
            .tree(
                num_leaves=leaves,
                num_leaves_to_search=min(
                    leaves, max(_LEAST_LEAVES_SEARCHED, round(leaves * _LEAVES_SEARCHED))
                ),
                training_sample_size=min(len(vectors), _POINTS_TO_TRAIN),
            )
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(_REORDERED)
            .build(docids=list(range(len(vectors))))
        )
        return cls(searcher)

    @classmethod
    def load(cls, folder: Path, size: int) -> ScannIndex:
        """Load what `save` wrote, of `size` items."""
        bindings = scann_bindings()
        assets = (folder / "scann_assets.pbtxt").read_text(encoding="utf-8")
        # Not `load_searcher`, which unpickles ids; here an id is the item's position.
        searcher = bindings.scann_pybind.ScannNumpy(str(folder), assets)
        return cls(bindings.ScannSearcher(searcher, docids=list(range(size))))

    def save(self, folder: Path) -> None:
        """Write the index so that the folder may be renamed. Positions must be 0 to n - 1."""
        # Past the wrapper's own method, which would pickle the ids.
        self._searcher.searcher.serialize(str(folder), True)

    def search(
        self, query: NDArray[np.float32], k: int, exclude: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `ItemIndex.search`."""
        wanted = k + len(exclude)
        positions, scores = self._searcher.search(
            query, final_num_neighbors=wanted, pre_reorder_num_neighbors=max(_REORDERED, 2 * wanted)
        )
        found = np.array(positions, np.int64)
        kept = np.flatnonzero(~np.isin(found, exclude))[:k]
        return found[kept], np.asarray(scores, np.float32)[kept]

    def upsert(self, positions: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See `ItemIndex.upsert`."""
        for position, vector in zip(positions.tolist(), vectors, strict=True):
            self._searcher.upsert([position], vector)

    def remove(self, positions: NDArray[np.int64]) -> None:
        """See `ItemIndex.remove`."""
        for position in positions.tolist():
            if position in self._searcher.docid_to_id:
                self._searcher.delete([position])
