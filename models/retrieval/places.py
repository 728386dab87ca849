"""Where ids stand: a hash table in arrays, which finds many at once.

A dictionary of a million ids takes a walk through memory for each id, one after the other: to its
table, its entry, the text and the number. Here the walks of all ids asked for overlap, and each is
one line of the cache long.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
_SLOTS = 8
"""Of a bucket: hashes of 8 bytes fill a line of the cache."""
_FILLED = 4
"""Ids of a bucket, on average at the most."""


class Places:
    """A place for each id: those given first, then those added, in their order.

    Ids are told apart by Python's hash of them, 64 bits long and keyed with a secret of the process
    (SipHash): that two of a million ids have one, and not by anybody's design, has odds of 1 in 30
    million.
    """

    def __init__(self, item_ids: Sequence[str]) -> None:
        """Give these, which differ, the places from 0 on."""
        hashes = _hashes(item_ids)
        buckets = 1 << max(0, len(item_ids) // _FILLED).bit_length()
        self._mask = buckets - 1
        # No text has the hash -1, which stands for an error in C.
        self._hashes = np.full((buckets, _SLOTS), -1)
        self._places = np.full((buckets, _SLOTS), UNKNOWN, np.int32)
        bucket = hashes & self._mask
        order = np.argsort(bucket, kind="stable")
        ordered = bucket[order]
        slot = np.arange(len(order)) - ordered.searchsorted(ordered)
        fits = slot < _SLOTS
        at = ordered[fits], slot[fits]
        self._hashes[at] = hashes[order[fits]]
        self._places[at] = order[fits]
        self._others = {item_ids[place]: place for place in order[~fits].tolist()}
        """Those that found no room, and those that came later."""

    def add(self, item_id: str, place: int) -> None:
        """Give an id that has none a place."""
        self._others[item_id] = place

    def get(self, item_id: str) -> int | None:
        """Return where an id stands, None for an unknown one."""
        hashed = hash(item_id)
        bucket = hashed & self._mask
        slot = (self._hashes[bucket] == hashed).argmax()
        if self._hashes[bucket, slot] == hashed:
            return int(self._places[bucket, slot])
        return self._others.get(item_id)

    def of(self, item_ids: Collection[str]) -> NDArray[np.int64]:
        """Return where each of these stands, `UNKNOWN` for an unknown one."""
        hashes = _hashes(item_ids)
        bucket = hashes & self._mask
        row, slot = (self._hashes[bucket] == hashes[:, None]).nonzero()
        places = np.full(len(hashes), UNKNOWN)
        places[row] = self._places[bucket[row], slot]
        if self._others and len(row) < len(places):
            ids = list(item_ids)
            for at in (places < 0).nonzero()[0].tolist():
                places[at] = self._others.get(ids[at], UNKNOWN)
        return places


def _hashes(item_ids: Collection[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, item_ids), np.int64, len(item_ids))
