"""What the towers read beside item vectors, computed alike when training and when serving."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.events import KINDS

BUCKETS = 4096
"""Of the hashing trick; bucket 0 means no feature."""
SLOTS = 32
"""Features kept of an item, in the order of `item_tokens`."""

GAP_BUCKETS = 8
"""Powers of 4 seconds: under 3 s, 15 s, 1 min, 4 min, 17 min, 68 min, 4.5 h, and longer."""
INTERACTION_FEATURES = len(KINDS) + 2 + GAP_BUCKETS
"""Width of `interaction_features`: the kind, whether rated, the rating, the gap."""

_KIND_AND_GAP = np.concatenate(
    [
        np.eye(len(KINDS), dtype=np.float32).repeat(GAP_BUCKETS, axis=0),
        np.zeros((len(KINDS) * GAP_BUCKETS, 2), np.float32),
        np.tile(np.eye(GAP_BUCKETS, dtype=np.float32), (len(KINDS), 1)),
    ],
    axis=1,
)
"""`interaction_features` of each kind and gap, unrated."""
_WORD = re.compile(r"\w+")
_CODE_OF_KIND = {kind: code for code, kind in enumerate(KINDS)}


def item_tokens(item: Item) -> Iterator[str]:
    """Yield the item's content as tokens: categories, price step, attributes, title words."""
    for category in item.categories:
        yield f"category={category.casefold()}"
    if item.price is not None:
        # Steps of a quarter of an order of magnitude: what is dear to one catalogue is not to all.
        yield f"price={math.floor(4 * math.log10(max(item.price, 0.01)))}"
    for name in sorted(item.attributes):
        value = item.attributes[name]
        if value is not None:
            yield f"{name}={str(value).casefold()}"
    if item.title is not None:
        for word in _WORD.findall(item.title.casefold()):
            yield f"title={word}"


def item_features(items: Sequence[Item]) -> NDArray[np.int32]:
    """Return `[n, SLOTS]`: each item's tokens as buckets 1 to BUCKETS - 1, padded with 0.

    The hashing trick (Weinberger et al., 2009). CRC-32 is the same in every process, unlike `hash`.
    """
    features = np.zeros((len(items), SLOTS), np.int32)
    for row, item in zip(features, items, strict=True):
        buckets = dict.fromkeys(
            1 + zlib.crc32(token.encode()) % (BUCKETS - 1) for token in item_tokens(item)
        )
        kept = list(buckets)[:SLOTS]
        row[: len(kept)] = kept
    return features


def kind_codes(kinds: Sequence[str]) -> NDArray[np.int8]:
    """Return the kinds' places in `KINDS`."""
    return np.fromiter(map(_CODE_OF_KIND.__getitem__, kinds), np.int8, len(kinds))


def rating_values(ratings: Sequence[float | None]) -> NDArray[np.float32]:
    """Return ratings on the producer's own scale, NaN for none."""
    # NumPy reads None as NaN too, but looks at each one for much longer.
    known = [math.nan if rating is None else rating for rating in ratings]
    return np.array(known, np.float32)


def interaction_features(
    gaps: NDArray[np.float64], kinds: NDArray[np.int8], ratings: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return `[n, INTERACTION_FEATURES]` for n interactions.

    `gaps`: seconds since the same user's interaction before, 0 for the first; `kinds`: codes into
    `KINDS`; `ratings`: on the producer's own scale, NaN for none.
    """
    steps = np.log1p(np.maximum(gaps, 0.0)) * (1.0 / math.log(4.0))
    bucket = np.minimum(steps.astype(np.int64), GAP_BUCKETS - 1)
    features: NDArray[np.float32] = _KIND_AND_GAP[kinds * GAP_BUCKETS + bucket]
    rated = np.flatnonzero(~np.isnan(ratings))
    if len(rated):
        features[rated, len(KINDS)] = 1.0
        features[rated, len(KINDS) + 1] = ratings[rated]
    return features
