"""Maximal marginal relevance, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.retrieval.diversity import diverse_order

# Four items, the most relevant first: relevance 1, 3/4, 1/2, 1/4. The first two are the same,
# the third lies at a right angle to them, the fourth opposite to the first.
DIRECTIONS = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], np.float32)


@pytest.mark.parametrize(
    ("diversity", "order"),
    [
        (0.0, [0, 1, 2, 3]),
        # After 0: item 1 has .9 * .75 - .1 = .575, item 2 .9 * .5 = .45.
        (0.1, [0, 1, 2, 3]),
        # After 0: item 1 has .5 * .75 - .5 = -.125, item 2 .5 * .5 = .25, item 3 .125, which has
        # no likeness with item 2 either.
        (0.5, [0, 2, 3, 1]),
        # All are alike in what they are worth; the one that repeats comes last.
        (1.0, [0, 2, 3, 1]),
    ],
)
def test_the_order(diversity: float, order: list[int]) -> None:
    assert diverse_order(DIRECTIONS, 4, diversity).tolist() == order
    assert diverse_order(DIRECTIONS, 2, diversity).tolist() == order[:2]


def test_no_more_than_there_are() -> None:
    assert diverse_order(DIRECTIONS, 9, 0.5).tolist() == [0, 2, 3, 1]
    assert diverse_order(DIRECTIONS[:0], 9, 0.5).tolist() == []


def test_an_item_without_a_direction_is_like_no_other() -> None:
    directions = np.array([[1, 0], [1, 0], [0, 0]], np.float32)
    assert diverse_order(directions, 3, 0.9).tolist() == [0, 2, 1]
