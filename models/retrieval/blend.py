"""How the towers and the rules are made one: a mixture of two probabilities.

The towers say which items are like what the user does, the rules what came next when others had
just done the same. Each gives a probability for the next item, and the score is the logarithm of

    (1 - λ) · exp(z - log Σ exp z of the towers' candidates) + λ · p

with z the dot product, p the rules' probability (`models.retrieval.rules`), and λ the rules' share.

No rule was counted to an item that came after the training, which says nothing of the item. As long
as rules say less of it than the towers do, the towers' probability stands for both.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

_LEAST = -1e6
"""In place of log 0: a score is always a number that a calibration can be applied to."""


class Blend(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With what a version's towers and rules are blended; `blend.json` in the artefact."""

    rules: Annotated[float, Meta(ge=0, le=1)]
    """Share of the rules, λ; with 0 the towers rank alone."""
    last: Annotated[int, Meta(ge=1, le=50)]
    """Items of the session that the rules look from, the newest ones."""
    decay: Annotated[float, Meta(gt=0, le=1)]
    """Weight of each further one of them, relative to the one after it."""
    smoothing: Annotated[float, Meta(ge=0, le=1e6)]
    """Added to an item's total weight, so that few observations say little."""
    candidates: Annotated[int, Meta(ge=10, le=2000)]
    """Items that the towers contribute, the best ones; their probabilities add up to 1."""


def log_normaliser(dots: NDArray[np.float32]) -> float:
    """Return log Σ exp of the `[n]` dot products of the towers' candidates; 0 for none."""
    if not len(dots):
        return 0.0
    wide = dots.astype(np.float64)
    largest = float(wide.max())
    return largest + math.log(float(np.exp(wide - largest).sum()))


def blended_scores(
    dots: NDArray[np.float32],
    probabilities: NDArray[np.float64],
    normaliser: float | NDArray[np.float64],
    share: float,
    cold: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return the logarithms of the mixed probabilities, of any shape.

    `dots`: dot products of items with a query; `probabilities`: what the rules give them, 0 for an
    item that no rule leads to; `normaliser`: `log_normaliser` of the query's candidates, one for
    all or of a shape that fits; `share`: of the rules; `cold`: which items came after the training,
    none when None. With a share of 0 items rank as their dot products do.
    """
    # In logarithms from beginning to end: a probability that is too small to write still ranks.
    towers = dots.astype(np.float64) - normaliser
    mixed = towers + (math.log1p(-share) if share < 1 else -math.inf)
    ruled = probabilities.nonzero()
    if share and len(ruled[0]):
        rules = math.log(share) + np.log(probabilities[ruled])
        mixed[ruled] = np.logaddexp(mixed[ruled], rules)
    if cold is not None:
        mixed = np.where(cold, np.maximum(mixed, towers), mixed)
    return np.asarray(np.maximum(mixed, _LEAST))
