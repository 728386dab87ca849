"""One contract, which every index keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.retrieval.index import ExactIndex, ItemIndex, ScannIndex

ITEMS, WIDTH = 3_000, 16
NONE = np.array([], np.int64)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, WIDTH))
    return (centres[rng.integers(0, 30, ITEMS)] + rng.normal(size=(ITEMS, WIDTH))).astype("f4")


def reloaded(vectors: np.ndarray, folder: Path) -> ScannIndex:
    aside, folder = folder / "aside", folder / "index"
    aside.mkdir()
    ScannIndex.build(vectors).save(aside)
    aside.rename(folder)
    return ScannIndex.load(folder, len(vectors))


@pytest.fixture(params=["exact", "scann", "scann reloaded"])
def index(request: pytest.FixtureRequest, vectors: np.ndarray, tmp_path: Path) -> ItemIndex:
    make: dict[str, Callable[[], ItemIndex]] = {
        "exact": lambda: ExactIndex(vectors),
        "scann": lambda: ScannIndex.build(vectors),
        "scann reloaded": lambda: reloaded(vectors, tmp_path),
    }
    return make[request.param]()


def truth(vectors: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    return np.argsort(-(vectors @ query), kind="stable")[:k].tolist()


def test_finds_the_largest_dot_products(index: ItemIndex, vectors: np.ndarray) -> None:
    found = 0
    for query in np.random.default_rng(1).normal(size=(50, WIDTH)).astype("f4"):
        positions, _ = index.search(query, 10, NONE)
        found += len(set(positions.tolist()) & set(truth(vectors, query, 10)))
    assert found / 500 >= 0.9


def test_scores_are_the_dot_products_best_first(index: ItemIndex, vectors: np.ndarray) -> None:
    query = vectors[17]
    positions, scores = index.search(query, 10, NONE)
    assert len(positions) == len(scores) == 10
    np.testing.assert_allclose(scores, vectors[positions] @ query, rtol=1e-4)
    assert (np.diff(scores) <= 0).all()


def test_what_is_excluded_is_not_found_and_k_stay(index: ItemIndex, vectors: np.ndarray) -> None:
    query = vectors[17]
    without = np.array(truth(vectors, query, 25), np.int64)
    positions, _ = index.search(query, 10, without)
    assert len(positions) == 10
    assert not set(positions.tolist()) & set(without.tolist())


def test_a_new_item_is_found(index: ItemIndex, vectors: np.ndarray) -> None:
    query = vectors[5]
    index.upsert(np.array([ITEMS, ITEMS + 1]), np.stack([query * 20, query * 10]))
    assert index.search(query, 2, NONE)[0].tolist() == [ITEMS, ITEMS + 1]


def test_a_vector_can_be_replaced(index: ItemIndex, vectors: np.ndarray) -> None:
    query = vectors[5]
    index.upsert(np.array([123]), query[None] * 20)
    positions, scores = index.search(query, 1, NONE)
    assert positions.tolist() == [123]
    np.testing.assert_allclose(scores, 20 * query @ query, rtol=1e-4)


def test_a_removed_item_is_not_found_and_others_keep_their_positions(
    index: ItemIndex, vectors: np.ndarray
) -> None:
    query = vectors[5]
    best = truth(vectors, query, 3)
    index.remove(np.array(best[:1]))
    index.remove(np.array(best[:1]))
    positions, scores = index.search(query, 2, NONE)
    assert positions.tolist() == best[1:]
    np.testing.assert_allclose(scores, vectors[positions] @ query, rtol=1e-4)


def test_a_removed_item_comes_back(index: ItemIndex, vectors: np.ndarray) -> None:
    query = vectors[5]
    best = np.array(truth(vectors, query, 1))
    index.remove(best)
    index.upsert(best, vectors[best])
    assert index.search(query, 1, NONE)[0].tolist() == best.tolist()


def test_searching_changes_nothing(index: ItemIndex, vectors: np.ndarray) -> None:
    first = index.search(vectors[3], 10, np.array([3]))
    again = index.search(vectors[3], 10, np.array([3]))
    np.testing.assert_array_equal(first[0], again[0])


def test_fewer_items_than_asked_for(vectors: np.ndarray) -> None:
    positions, _ = ExactIndex(vectors[:3]).search(vectors[0], 10, np.array([1]))
    assert sorted(positions.tolist()) == [0, 2]


def test_a_saved_index_holds_nothing_pickled(vectors: np.ndarray, tmp_path: Path) -> None:
    reloaded(vectors, tmp_path)
    assert not list((tmp_path / "index").glob("*.pkl"))
