"""Packs windows of many lengths into rows of one length, so that little of a batch is padding.

First-fit decreasing (Johnson, 1973): a row takes the longest window that still fits. There are far
fewer lengths than windows, so rows are made by *patterns* ("one of 37, two of 6"), each as often as
it can be filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Packed:
    """Where each of w windows lies."""

    row: NDArray[np.int64]
    """`[w]`"""
    offset: NDArray[np.int64]
    """`[w]`: the place in the row at which it begins."""
    rows: int


def pack(lengths: NDArray[np.int64], capacity: int) -> Packed:
    """Place windows of these lengths, each 1 to `capacity`, in as few rows as first-fit finds."""
    pools = np.split(
        np.argsort(lengths, kind="stable"),
        np.cumsum(np.bincount(lengths, minlength=capacity + 1))[:-1],
    )
    left = np.array([len(pool) for pool in pools])
    row, offset = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    rows = 0
    while left.any():
        pattern = _pattern(left, capacity)
        times = min(int(left[length]) // count for length, count in pattern)
        at = 0
        for length, count in pattern:
            end = left[length]
            taken = pools[length][end - times * count : end].reshape(times, count)
            row[taken] = rows + np.arange(times)[:, None]
            offset[taken] = at + length * np.arange(count)
            left[length] -= times * count
            at += length * count
        rows += times
    return Packed(row, offset, rows)


def _pattern(left: NDArray[np.int64], capacity: int) -> list[tuple[int, int]]:
    """Return the lengths of the windows that fill one row, longest first, and how many of each."""
    pattern: list[tuple[int, int]] = []
    room = capacity
    while room:
        fitting = np.flatnonzero(left[: room + 1])
        if pattern:
            fitting = fitting[fitting < pattern[-1][0]]
        if not len(fitting):
            break
        length = int(fitting[-1])
        pattern.append((length, min(int(left[length]), room // length)))
        room -= length * pattern[-1][1]
    return pattern
