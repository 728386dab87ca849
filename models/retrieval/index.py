"""The item index: which items' vectors have the largest dot product with a query vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
_SPARE_STEP = 64
"""Sessions of about one length are searched for together: spare items are counted in such steps."""
_POINTS_TO_TRAIN = 250_000
"""Vectors from which ScaNN learns its partitions."""


Found = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Positions and dot products, best first."""


class ItemIndex(Protocol):
    """Items by position. A position keeps its meaning for the index's lifetime."""

    def search(self, query: NDArray[np.float32], k: int, exclude: NDArray[np.int64]) -> Found:
        """Return the positions and dot products of the k best items, best first.

        `query`: `[width]`. `exclude`: positions not wanted. Fewer than k when there are no more.
        """

    def search_many(
        self, queries: NDArray[np.float32], k: int, exclude: Sequence[NDArray[np.int64]]
    ) -> list[Found]:
        """Return what `search` finds for each of `[n, width]` queries, in one go.

        `exclude`: for each of them. What is found for one depends on none of the others.
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

    def search(self, query: NDArray[np.float32], k: int, exclude: NDArray[np.int64]) -> Found:
        """See `ItemIndex.search`."""
        return self.search_many(query[None], k, [exclude])[0]

    def search_many(
        self, queries: NDArray[np.float32], k: int, exclude: Sequence[NDArray[np.int64]]
    ) -> list[Found]:
        """See `ItemIndex.search_many`."""
        # One product for each: that of all together rounds otherwise, and an answer must not tell
        # whom else the server had in hand.
        return [
            self._best(self._vectors @ query, without, k)
            for query, without in zip(queries, exclude, strict=True)
        ]

    def _best(self, scores: NDArray[np.float32], exclude: NDArray[np.int64], k: int) -> Found:
        scores[~self._present] = -np.inf
        scores[exclude[exclude < len(scores)]] = -np.inf
        k = min(k, len(scores))
        best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
        best = best[np.argsort(-scores[best], kind="stable")]
        best = best[scores[best] > -np.inf]
        return best, scores[best]

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
    """ScaNN (Guo et al., 2020): partitions, quantised scores, the best scored again exactly.

    ScaNN's own searcher is used, not the wrapper round it, which keeps a list and a dictionary of
    ids, and goes through each answer in a loop.
    """

    def __init__(self, searcher: Any, size: int, settings: ScannSettings) -> None:
        """Take a searcher of so many items; `build` and `load` make one."""
        self._searcher = searcher
        self._rows = _Rows(size)
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
        built = (
            scann_bindings()
            .builder(np.ascontiguousarray(vectors, np.float32), 10, "dot_product")
            .tree(
                num_leaves=leaves,
                num_leaves_to_search=min(leaves, settings.leaves),
                training_sample_size=min(len(vectors), _POINTS_TO_TRAIN),
            )
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(settings.reordered)
            .build()
        )
        return cls(built.searcher, len(vectors), settings)

    @classmethod
    def load(cls, folder: Path, size: int) -> ScannIndex:
        """Load what `save` wrote, of `size` items. Raises `OSError`, `ValueError`, ScaNN's own."""
        try:
            settings = msgspec.json.decode((folder / SETTINGS).read_bytes(), type=ScannSettings)
        except msgspec.DecodeError as exc:
            raise ValueError(f"{SETTINGS}: {exc}") from exc
        assets = (folder / "scann_assets.pbtxt").read_text(encoding="utf-8")
        # Not `load_searcher`, which unpickles ids; here an id is the item's position.
        searcher = scann_bindings().scann_pybind.ScannNumpy(str(folder), assets)
        return cls(searcher, size, settings)

    def save(self, folder: Path) -> None:
        """Write the index so that the folder may be renamed. Positions must be 0 to n - 1."""
        self._searcher.serialize(str(folder), True)
        (folder / SETTINGS).write_bytes(msgspec.json.encode(self.settings))

    def search(self, query: NDArray[np.float32], k: int, exclude: NDArray[np.int64]) -> Found:
        """See `ItemIndex.search`.

        It looks somewhat closer than `search_many`: of twice as many the exact dot product is
        computed, for far from the query the quantised ones order worse.
        """
        return self._search(query[None], k, [exclude], 2)[0]

    def search_many(
        self, queries: NDArray[np.float32], k: int, exclude: Sequence[NDArray[np.int64]]
    ) -> list[Found]:
        """See `ItemIndex.search_many`."""
        return self._search(queries, k, exclude, 1)

    def _search(
        self,
        queries: NDArray[np.float32],
        k: int,
        exclude: Sequence[NDArray[np.int64]],
        closer: int,
    ) -> list[Found]:
        """`closer`: times as many as are asked for, whose exact dot product is computed."""
        found: list[Found] = [_NOTHING] * len(queries)
        # ScaNN is asked for as many for each of those that it is asked for together.
        wanted = [k + -(-len(each) // _SPARE_STEP) * _SPARE_STEP for each in exclude]
        for each in set(wanted):
            rows = [row for row, of_row in enumerate(wanted) if of_row == each]
            how = each, max(self.settings.reordered, closer * each), self._leaves_for(each)
            if len(rows) == 1:
                # The same, somewhat sooner.
                listed, dots = (one[None] for one in self._searcher.search(queries[rows[0]], *how))
            else:
                listed, dots = self._searcher.search_batched(queries[rows], *how, False, 0)
            for row, positions, of_row in zip(
                rows, self._rows.positions(listed), dots, strict=True
            ):
                # Where ScaNN finds no more, it says NaN.
                kept = self._rows.are_not(positions, exclude[row]) & (of_row == of_row)
                at = kept.nonzero()[0][:k]
                found[row] = positions[at], of_row[at]
        return found

    def _leaves_for(self, wanted: int) -> int:
        return max(self.settings.leaves, math.ceil(_SPARE * wanted / self._items_in_leaf))

    def upsert(self, positions: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See `ItemIndex.upsert`."""
        for position, vector in zip(positions.tolist(), vectors, strict=True):
            self._searcher.upsert([self._rows.put(position)], vector[None], 1)

    def remove(self, positions: NDArray[np.int64]) -> None:
        """See `ItemIndex.remove`."""
        for position in positions.tolist():
            row = self._rows.remove(position)
            if row is not None:
                self._searcher.delete([row])


_NOTHING: Found = (np.zeros(0, np.int64), np.zeros(0, np.float32))
_NOWHERE = -1


class _Rows:
    """Which position stands in which row of ScaNN's; the last row takes a deleted one's place.

    Two arrays: objects for each of a million items would take more memory than the index.
    """

    def __init__(self, size: int) -> None:
        self._position_of = np.arange(size, dtype=np.int64)
        self._row_of = np.arange(size, dtype=np.int64)
        self._marked = np.zeros(size, np.bool_)
        """By position; all are False between two calls."""
        self._used = size

    def positions(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the positions that stand in these rows."""
        return np.asarray(self._position_of[rows])

    def are_not(self, positions: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of each position whether it is none of the others."""
        # By a mark at each item: comparing each with each, or sorting, takes several times as long.
        others = others[others < len(self._marked)]
        self._marked[others] = True
        found = ~self._marked[positions]
        self._marked[others] = False
        return np.asarray(found)

    def put(self, position: int) -> int | None:
        """Note that a position is put in; return its row, None for a new one at the end."""
        self._row_of = _with_room(self._row_of, position)
        if len(self._marked) < len(self._row_of):
            self._marked = np.zeros(len(self._row_of), np.bool_)
        row = int(self._row_of[position])
        if row != _NOWHERE:
            return row
        self._position_of = _with_room(self._position_of, self._used)
        self._position_of[self._used] = position
        self._row_of[position] = self._used
        self._used += 1
        return None

    def remove(self, position: int) -> int | None:
        """Note that a position is taken out; return the row that it had, None for none."""
        if position >= len(self._row_of):
            return None
        row = int(self._row_of[position])
        if row == _NOWHERE:
            return None
        self._used -= 1
        last = self._position_of[self._used]
        self._position_of[row], self._row_of[last] = last, row
        self._row_of[position] = _NOWHERE
        return row


def _with_room(places: NDArray[np.int64], at: int) -> NDArray[np.int64]:
    """Return the array, long enough for this place, and with room for as many again."""
    missing = at + 1 - len(places)
    if missing <= 0:
        return places
    return np.pad(places, (0, missing + len(places)), constant_values=_NOWHERE)


def count_leaves(size: int) -> int:
    """Return into how many partitions ScaNN puts so many items."""
    return max(1, math.isqrt(size))
