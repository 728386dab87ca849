"""Fits the probability that a score stands for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.retrieval.calibration import Calibration

_STEPS = 50
"""Newton's method needs fewer than 10 unless the labels are separable."""
_RIDGE = 1e-6
"""Keeps the Hessian regular when all scores are equal."""
_LEAST_SLOPE = 1e-3
"""A better score must never mean a smaller probability."""


def fit_calibration(scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> Calibration:
    """Fit Platt's two-parameter logistic to scores and whether they came true, of any shape.

    Newton's method on the log loss, with Platt's targets (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2) in
    place of 1 and 0, as in Lin, Lin & Weng (2007). Without data the slope is 1, the intercept 0.
    """
    x, y = scores.ravel().astype(np.float64), labels.ravel()
    if not len(x):
        return Calibration(slope=1.0, intercept=0.0)
    centre, spread = float(x.mean()), float(x.std()) or 1.0
    design = np.column_stack([(x - centre) / spread, np.ones_like(x)])
    positives = int(y.sum())
    target = np.where(y, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    base = float(target.mean())
    beta = np.array([0.0, np.log(base / (1 - base))])
    for _ in range(_STEPS):
        p = 0.5 * (1 + np.tanh(0.5 * (design @ beta)))
        gradient = design.T @ (p - target)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + _RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        beta -= np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-9:
            break
    slope = max(float(beta[0]) / spread, _LEAST_SLOPE)
    # With the slope as found this is the fitted intercept; with another the mean stays right.
    return Calibration(slope=slope, intercept=float(beta[1]) - slope * centre)
