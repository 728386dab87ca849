"""What a second stage reads of each item that retrieval has found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.retrieval.recommendations import Recommendations
from models.retrieval.session_search import Best
from models.retrieval.vectors import directions

CANDIDATE_FEATURES = 8
"""Of a candidate, for a second stage: log score; the towers' and the rules' log probability; place;
cosine with the newest item, and with the nearest of the newest ones; whether the session holds it;
how long the session is."""
_NEWEST = 5
"""Items of a session that a candidate's nearness is looked at from."""
_LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Candidates:
    """What retrieval found, for a second stage to reorder."""

    items: Recommendations
    features: NDArray[np.float32]
    """`[n, CANDIDATE_FEATURES]`"""


def candidate_features(best: Best, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `[n, CANDIDATE_FEATURES]` of the n best items; `vectors`: `[items, width]`."""
    held = best.held
    cosines = directions(vectors[best.positions]) @ directions(vectors[held[::-1][:_NEWEST]]).T
    n = len(best.positions)
    return np.column_stack(
        [
            best.scores,
            best.towers,
            np.log(best.rules + _LEAST_PROBABILITY),
            np.log1p(np.arange(n)),
            cosines[:, 0],
            cosines.max(axis=1),
            np.isin(best.positions, held),
            np.full(n, np.log1p(len(held))),
        ]
    ).astype(np.float32)
