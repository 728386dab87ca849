from __future__ import annotations

import math

import numpy as np
import pytest

from models.retrieval.calibration import Calibration


@pytest.fixture(scope="module")
def fit_calibration():  # type: ignore[no-untyped-def]
    from models.training.calibration import fit_calibration

    return fit_calibration


def test_two_scores_by_hand(fit_calibration) -> None:  # type: ignore[no-untyped-def]
    # At score 0 one of four came true, at score 1 three of four. N+ = N- = 4, so Platt's targets
    # are 5/6 and 1/6, and their means (5/6 + 3/6) / 4 = 1/3 and 2/3. A logistic through two
    # points has logit(1/3) = -ln 2 at 0, and logit(2/3) - logit(1/3) = 2 ln 2 for a slope.
    scores = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
    labels = np.array([1, 0, 0, 0, 1, 1, 1, 0], np.bool_)
    calibration = fit_calibration(scores, labels)
    assert calibration.intercept == pytest.approx(-math.log(2), abs=1e-4)
    assert calibration.slope == pytest.approx(2 * math.log(2), abs=1e-4)


@pytest.mark.parametrize("came_true", [0, 1, 50, 100])
def test_probabilities_stay_in_bounds(fit_calibration, came_true: int) -> None:  # type: ignore[no-untyped-def]
    scores = np.linspace(-3, 9, 100, dtype=np.float32).reshape(10, 10)
    labels = (np.arange(100) >= 100 - came_true).reshape(10, 10)
    calibration = fit_calibration(scores, labels)
    probabilities = calibration(np.array([-1e6, -3, 0, 9, 1e6], np.float32))
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.diff(probabilities) >= 0).all()


def test_a_better_score_never_means_less(fit_calibration) -> None:  # type: ignore[no-untyped-def]
    scores = np.linspace(0, 1, 100, dtype=np.float32)
    assert fit_calibration(scores, scores < 0.5).slope > 0


def test_equal_scores_get_the_base_rate(fit_calibration) -> None:  # type: ignore[no-untyped-def]
    labels = np.arange(1000) < 200
    calibration = fit_calibration(np.full(1000, 3, np.float32), labels)
    # (200 · 201/202 + 800 · 1/802) / 1000
    assert calibration(np.array([3], np.float32))[0] == pytest.approx(0.2, abs=1e-3)


def test_without_data(fit_calibration) -> None:  # type: ignore[no-untyped-def]
    nothing = fit_calibration(np.zeros((0, 10), np.float32), np.zeros((0, 10), np.bool_))
    assert nothing == Calibration(slope=1.0, intercept=0.0)


def test_the_smallest_probabilities_differ() -> None:
    probabilities = Calibration(slope=1.0, intercept=0.0)(np.array([-300, -200, -100], np.float32))
    np.testing.assert_allclose(probabilities, np.exp([-300.0, -200.0, -100.0]))
