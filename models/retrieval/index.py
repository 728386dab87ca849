"""The item index: which items' vectors have the largest dot product with a query vector."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from models.retrieval.scann_import import scann_bindings

SCANN_FROM_ITEMS = 20_000
"""Above this many items ScaNN answers sooner than one matrix product over all of them."""

SETTINGS = "settings.json"
_SPARE = 10
"""Times as many items as are wanted that the leaves searched hold, at the least."""
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


class ScannSettings(Struct, frozen=True):
    """How far ScaNN looks for the best items."""

    leaves: Annotated[int, Meta(ge=1)] = 32
    """Partitions that a query visits."""
    reordered: Annotated[int, Meta(ge=1)] = 200
    """Candidates whose exact dot product is computed."""


class ScannIndex:
    """ScaNN (Guo et al., 2020): partitions, quantised scores, the best scored again exactly."""

    def __init__(self, searcher: Any, size: int, settings: ScannSettings) -> None:
        """Wrap a ScaNN searcher of so many items; `build` and `load` make one."""
        self._searcher = searcher
        self._items_in_leaf = size / count_leaves(size)
        self.settings = settings

    @classmethod
    def build(
        cls,
        vectors: NDArray[np.float32],
        settings: ScannSettings = ScannSettings(),  # noqa: B008
    ) -> ScannIndex:
        """Index `[n, width]` vectors as positions 0 to n - 1; n of some thousands at the least."""
        leaves = count_leaves(len(vectors))
        searcher = (
            scann_bindings()
            .builder(np.ascontiguousarray(vectors, np.float32), 10, "dot_product")
            .tree(
                num_leaves=leaves,
                num_leaves_to_search=min(leaves, settings.leaves),
                training_sample_size=min(len(vectors), _POINTS_TO_TRAIN),
            )
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(settings.reordered)
            .build(docids=list(range(len(vectors))))
        )
        return cls(searcher, len(vectors), settings)

    @classmethod
    def load(cls, folder: Path, size: int) -> ScannIndex:
        """Load what `save` wrote, of `size` items. Raises `OSError`, `ValueError`, ScaNN's own."""
        try:
            settings = msgspec.json.decode((folder / SETTINGS).read_bytes(), type=ScannSettings)
        except msgspec.DecodeError as exc:
            raise ValueError(f"{SETTINGS}: {exc}") from exc
        bindings = scann_bindings()
        assets = (folder / "scann_assets.pbtxt").read_text(encoding="utf-8")
        # Not `load_searcher`, which unpickles ids; here an id is the item's position.
        searcher = bindings.scann_pybind.ScannNumpy(str(folder), assets)
        return cls(bindings.ScannSearcher(searcher, docids=list(range(size))), size, settings)

    def save(self, folder: Path) -> None:
        """Write the index so that the folder may be renamed. Positions must be 0 to n - 1."""
        # Past the wrapper's own method, which would pickle the ids.
        self._searcher.searcher.serialize(str(folder), True)
        (folder / SETTINGS).write_bytes(msgspec.json.encode(self.settings))

    def search(
        self, query: NDArray[np.float32], k: int, exclude: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `ItemIndex.search`."""
        wanted = k + len(exclude)
        positions, scores = self._searcher.search(
            query,
            final_num_neighbors=wanted,
            pre_reorder_num_neighbors=max(self.settings.reordered, 2 * wanted),
            leaves_to_search=self._leaves_for(wanted),
        )
        found = np.array(positions, np.int64)
        kept = np.flatnonzero(~np.isin(found, exclude))[:k]
        return found[kept], np.asarray(scores, np.float32)[kept]

    def search_many(self, queries: NDArray[np.float32], k: int) -> list[NDArray[np.int64]]:
        """Return the positions that `search` finds for each of `[n, width]` queries."""
        none = np.zeros(0, np.int64)
        return [self.search(query, k, none)[0] for query in queries]

    def _leaves_for(self, wanted: int) -> int:
        return max(self.settings.leaves, math.ceil(_SPARE * wanted / self._items_in_leaf))

    def upsert(self, positions: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See `ItemIndex.upsert`."""
        for position, vector in zip(positions.tolist(), vectors, strict=True):
            self._searcher.upsert([position], vector)

    def remove(self, positions: NDArray[np.int64]) -> None:
        """See `ItemIndex.remove`."""
        for position in positions.tolist():
            if position in self._searcher.docid_to_id:
                self._searcher.delete([position])


def count_leaves(size: int) -> int:
    """Return into how many partitions ScaNN puts so many items."""
    return max(1, math.isqrt(size))
