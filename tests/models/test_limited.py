"""The best items within limits: as good as an exact look, however few or many are allowed."""

from __future__ import annotations

import numpy as np
import pytest

from models.retrieval.index import ExactIndex, ItemIndex, ScannIndex, ScannSettings, count_leaves
from models.retrieval.limited import nearest_allowed

ITEMS, WIDTH, K = 30_000, 16, 10
NONE = np.zeros(0, np.int64)
SELECTIVITIES = [0.0, 1e-4, 5e-4, 0.003, 0.02, 0.1, 0.17, 0.3, 0.5, 0.9, 0.998, 0.999, 1.0]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(100, WIDTH))
    return (centres[rng.integers(0, 100, ITEMS)] + rng.normal(size=(ITEMS, WIDTH))).astype("f4")


@pytest.fixture(scope="module", params=["exact", "scann"])
def index(request: pytest.FixtureRequest, vectors: np.ndarray) -> ItemIndex:
    if request.param == "exact":
        return ExactIndex(vectors)
    # One that without limits finds all of the best: what is missed then, is missed within them.
    return ScannIndex.build(vectors, ScannSettings(leaves=count_leaves(ITEMS) // 2))


def recall(
    index: ItemIndex, vectors: np.ndarray, queries: np.ndarray, allowed: np.ndarray
) -> float:
    """The share found of the best allowed items; each answer must hold as many as there are."""
    found = wanted = 0
    for query in queries:
        nearest = index.search(query, 100, NONE)
        positions, dots = nearest_allowed(index, vectors, query, K, allowed, nearest)
        assert allowed[positions].all()
        assert len(positions) == len(set(positions.tolist()))
        assert len(positions) >= min(K, allowed.sum())
        np.testing.assert_allclose(dots, vectors[positions] @ query, rtol=1e-3, atol=1e-3)
        assert (np.diff(dots) <= 0).all()
        best = np.argsort(-np.where(allowed, vectors @ query, -np.inf), kind="stable")
        best = best[: min(K, allowed.sum())]
        found += len(set(positions[:K].tolist()) & set(best.tolist()))
        wanted += len(best)
    return found / wanted if wanted else 1.0


@pytest.mark.parametrize("share", SELECTIVITIES)
def test_recall_at_any_selectivity_of_chance(
    index: ItemIndex, vectors: np.ndarray, share: float
) -> None:
    rng = np.random.default_rng(1)
    allowed = rng.random(ITEMS) < share
    assert recall(index, vectors, vectors[rng.integers(0, ITEMS, 20)], allowed) >= 0.95


@pytest.mark.parametrize("share", SELECTIVITIES)
@pytest.mark.parametrize("near", [True, False], ids=["near", "far"])
def test_recall_when_what_is_allowed_lies_near_or_far(
    index: ItemIndex, vectors: np.ndarray, share: float, near: bool
) -> None:
    found = []
    for query in vectors[np.random.default_rng(2).integers(0, ITEMS, 20)]:
        order = np.argsort(vectors @ query * (-1 if near else 1), kind="stable")
        allowed = np.zeros(ITEMS, np.bool_)
        allowed[order[: int(share * ITEMS)]] = True
        found.append(recall(index, vectors, query[None], allowed))
    # One miss of a query's ten is all that an index trained by chance may have.
    assert np.mean(found) >= 0.95
    assert min(found) >= 0.9


def test_the_index_is_asked_when_much_is_allowed_and_left_when_little_is(
    vectors: np.ndarray,
) -> None:
    class Counting(ExactIndex):
        asked = 0

        def search(
            self, query: np.ndarray, k: int, exclude: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            self.asked += 1
            return super().search(query, k, exclude)

    index = Counting(vectors)
    rng = np.random.default_rng(3)
    nothing = (NONE, np.zeros(0, np.float32))
    for share, asked in ((0.01, 0), (0.5, 1)):
        index.asked = 0
        allowed = rng.random(ITEMS) < share
        nearest_allowed(index, vectors, vectors[0], K, allowed, nothing)
        assert index.asked == asked
    # So it is when those whom the user has met lie nearest, and are not what limits leave out.
    met = np.argsort(-(vectors @ vectors[0]), kind="stable")[:200]
    allowed = rng.random(ITEMS) < 0.5
    allowed[met] = False
    index.asked = 0
    nearest = index.search(vectors[0], 20, met)
    found = nearest_allowed(index, vectors, vectors[0], K, allowed, nearest, met)
    assert index.asked == 2
    assert not np.isin(found[0], met).any()
    assert len(found[0]) < 1_000, "the index was not enough"
