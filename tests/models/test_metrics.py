"""Ranks, gains and calibration, worked out by hand."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest

from headrace.local.baselines import MISS
from models.training.metrics import (
    hr,
    mrr,
    ndcg,
    ranking_figures,
    ranks,
    ranks_in_lists,
    reliability,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "target", "rank"),
    [
        ([3, 2, 1, 0], 0, 1),
        ([3, 2, 1, 0], 2, 3),
        # The two that score as much as the target stand before it.
        ([1, 1, 1, 0], 0, 3),
        # A model that says the same of all items knows nothing.
        ([0, 0, 0, 0], 2, 4),
        ([-np.inf, -np.inf, 1, 0], 0, 4),
        # What is not a number never helps.
        ([NAN, 2, 1, 0], 0, MISS),
        ([3, NAN, 1, 0], 0, 2),
        ([3, 2, 1, 0], 4, MISS),
    ],
)
def test_rank_of_the_target(scores: list[float], target: int, rank: int) -> None:
    found = ranks(np.array([scores], np.float32), np.array([target], np.int32))
    assert found.tolist() == [rank]


def test_only_what_is_allowed_is_ranked() -> None:
    scores = np.array([[4, 3, 2, 1], [4, 3, 2, 1]], np.float32)
    allowed = np.array([[False, True, True, True], [True, True, True, False]])
    target = np.array([2, 3], np.int32)
    assert ranks(scores, target, allowed).tolist() == [2, MISS]


def test_rank_in_a_list_counts_equal_scores_against_it() -> None:
    items = np.array([[5, 7, 9], [5, 7, 9], [5, 7, -1], [5, -1, -1]], np.int32)
    scores = np.array([[3, 2, 1], [2, 2, 1], [2, NAN, 0], [2, 9, 9]], np.float32)
    target = np.array([7, 5, 7, 5], np.int32)
    assert ranks_in_lists(items, scores, target).tolist() == [2, 2, MISS, 1]
    assert ranks_in_lists(items, scores, np.full(4, 8, np.int32)).tolist() == [MISS] * 4


def test_figures_by_hand() -> None:
    found = np.array([1, 2, 10, 11, 20, 21, MISS, MISS])
    assert hr(found, 10) == 3 / 8
    assert ndcg(found, 10) == pytest.approx((1 + 1 / log2(3) + 1 / log2(11)) / 8)
    assert mrr(found, 20) == pytest.approx((1 + 1 / 2 + 1 / 10 + 1 / 11 + 1 / 20) / 8)
    assert ranking_figures(found)["recall_at_20"] == 5 / 8
    assert ranking_figures(np.zeros(0, np.int64)) == dict.fromkeys(ranking_figures(found), 0.0)


def test_calibration_by_hand() -> None:
    # Two bins of two: (0.1, 0.3) of which 0 came true, (0.6, 0.8) of which 1 did.
    p = np.array([0.8, 0.1, 0.6, 0.3])
    true = np.array([True, False, False, False])
    found = reliability(p, true, bins=2)
    assert found.predicted == pytest.approx([0.2, 0.7])
    assert found.observed == pytest.approx([0.0, 0.5])
    assert found.count.tolist() == [2, 2]
    assert found.expected_calibration_error == pytest.approx((0.2 + 0.2) / 2)
    # (0.2² + 0.1² + 0.6² + 0.3²) / 4 against 1/4 · 3/4.
    assert found.brier == pytest.approx(0.125)
    assert found.brier_skill == pytest.approx(1 - 0.125 / 0.1875)


def test_saying_the_base_rate_is_calibrated_and_has_no_skill() -> None:
    true = np.arange(300) % 10 == 0
    found = reliability(np.full(300, 0.1), true)
    assert found.brier_skill == pytest.approx(0)
    assert found.expected_calibration_error == pytest.approx(0)


def test_saying_zero_has_a_skill_below_none() -> None:
    found = reliability(np.zeros(300), np.arange(300) % 100 == 0)
    assert found.expected_calibration_error == pytest.approx(0.01)
    assert found.brier_skill < 0


def test_bins_of_equal_mass_and_nothing_at_all() -> None:
    found = reliability(np.linspace(0, 1, 100), np.zeros(100, np.bool_))
    assert len(found.count) == 15
    assert set(found.count.tolist()) <= {6, 7}
    empty = reliability(np.zeros(0), np.zeros(0, np.bool_))
    assert (empty.expected_calibration_error, empty.brier_skill) == (0.0, 0.0)
