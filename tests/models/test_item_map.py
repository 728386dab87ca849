"""The map of a version's items: what it shows, that it is always the same, and is checked."""

from __future__ import annotations

import numpy as np
import pytest

from models.retrieval.item_map import plane


def test_it_shows_the_plane_on_which_vectors_differ_most() -> None:
    # Along (3, 4, 0) / 5 by -2, 0, 2; along (0, 0, 1) by 1, -2, 1; the mean is (1, 1, 1).
    vectors = np.array([[1 - 1.2, 1 - 1.6, 2], [1, 1, -1], [1 + 1.2, 1 + 1.6, 2]], np.float32)
    points, explained = plane(vectors)
    # Variances of 8 and 6: the first axis is the first one; each points to its largest component.
    np.testing.assert_allclose(points, [[-2, 1], [0, -2], [2, 1]], atol=1e-6)
    assert explained == pytest.approx(1.0)


def test_it_says_how_much_of_the_differences_it_shows() -> None:
    # Two of each axis, at ±1, ±2, ±3: 2 · (9 + 4) of 2 · (9 + 4 + 1).
    vectors = np.kron(np.diag([1.0, 2.0, 3.0]), [[1.0], [-1.0]]).astype(np.float32)
    points, explained = plane(vectors)
    assert explained == pytest.approx(13 / 14)
    np.testing.assert_allclose(points[4], [3, 0], atol=1e-6)
    np.testing.assert_allclose(points[2], [0, 2], atol=1e-6)


def test_the_same_vectors_in_any_order_give_the_same_map() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 16)).astype(np.float32) * np.arange(1, 17, dtype=np.float32)
    order = rng.permutation(500)
    points, _ = plane(vectors)
    np.testing.assert_allclose(plane(vectors[order])[0], points[order], atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 8), (5, 1), (3, 2)])
def test_there_is_a_map_of_anything(shape: tuple[int, int]) -> None:
    points, explained = plane(np.ones(shape, np.float32))
    assert points.shape == (shape[0], 2)
    np.testing.assert_allclose(points, 0, atol=1e-6)
    assert explained == 1.0
