"""From a dot product to a probability."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

_Finite = Annotated[float, Meta(ge=-1e6, le=1e6)]


class Calibration(Struct, frozen=True):
    """Platt's scaling (1999): probability = 1 / (1 + exp(-(slope · score + intercept))).

    The probability is that the item is among the user's next 10 events, as a positive one.
    """

    slope: _Finite
    intercept: _Finite

    def __call__(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the probabilities, in [0, 1], of `[n]` scores."""
        logits = self.slope * scores.astype(np.float64) + self.intercept
        # Does not overflow, and tells the smallest probabilities apart.
        return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))
