"""The nearest of those items that a request allows, found by whichever way is the shortest.

An index knows nothing of a request's limits. When they allow few items, their dot products are all
computed; when they allow many, the index is asked for so many more items as limits leave out; and
when what it finds is not enough, because what is allowed lies far from the query, one matrix
product over all items settles it. So there are k items whenever k are allowed. What an index finds
first is the nearest, with hardly a miss; further down it misses some. So where limits leave out the
first ones, it is asked for several times as many as it takes to come to k.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.retrieval.attributes import Mask
from models.retrieval.index import ItemIndex

Found = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Positions and dot products, best first."""

_FEW = 5_000
"""Up to so many, gathering the vectors takes less time than the index."""
_SPARE = 4
"""Times as many items as should do that the index is asked for."""
_ONE_IN = 50
"""Past this share of all items the matrix product takes less time than the index."""
_MOST = 4_000
"""Items to ask the index for, however many there are."""
_NONE = np.zeros(0, np.int64)


def nearest_allowed(
    index: ItemIndex,
    vectors: NDArray[np.float32],
    query: NDArray[np.float32],
    k: int,
    allowed: Mask,
    nearest: Found,
    met: NDArray[np.int64] = _NONE,
) -> Found:
    """Return the k nearest allowed items or some more, fewer only when fewer are allowed.

    `vectors`: `[items, width]`; `query`: `[width]`; `allowed`: `[items]`; `nearest`: what the index
    says of all items but those met, which is enough when limits leave out little; `met`: positions
    that are not allowed, for they were met.
    """
    kept = _kept(nearest, allowed)
    if _suffice(kept, len(nearest[0]), k):
        return _found(nearest, kept)
    matches = int(np.count_nonzero(allowed))
    if matches <= _FEW:
        return _exactly(vectors, query, k, allowed)
    # As many as should do, behind those that have to be gone through.
    should_do = k * len(allowed) / matches
    behind = kept[k - 1] + 1 if len(kept) >= k else 0
    wanted = math.ceil(_SPARE * (behind + should_do))
    if wanted <= min(_MOST, len(allowed) // _ONE_IN):
        nearest = index.search(query, wanted, met)
        kept = _kept(nearest, allowed)
        if _suffice(kept, wanted, k):
            return _found(nearest, kept)
    return _exactly(vectors, query, k, allowed)


def _kept(found: Found, allowed: Mask) -> NDArray[np.int64]:
    """Return the places, in what was found, of the items that are allowed."""
    return np.flatnonzero(allowed[found[0]])


def _suffice(kept: NDArray[np.int64], asked: int, k: int) -> bool:
    """Return whether the first k of these are, all but surely, the nearest ones."""
    if len(kept) < k:
        return False
    # Where none is left out they are what an answer without limits holds.
    reached = int(kept[k - 1]) + 1
    return reached <= max(k, asked // _SPARE)


def _found(found: Found, kept: NDArray[np.int64]) -> Found:
    return found[0][kept], found[1][kept]


def _exactly(
    vectors: NDArray[np.float32], query: NDArray[np.float32], k: int, allowed: Mask
) -> Found:
    positions = np.flatnonzero(allowed)
    few = len(positions) * 4 <= len(allowed)
    dots = vectors.take(positions, axis=0) @ query if few else (vectors @ query)[positions]
    if k < len(dots):
        best = np.argpartition(dots, len(dots) - k)[len(dots) - k :]
        positions, dots = positions[best], dots[best]
    order = np.argsort(-dots, kind="stable")
    return positions[order], dots[order]
