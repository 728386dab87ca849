"""Fingerprints of 128 bits for columns of text, to find equal texts without keeping them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_LONGEST = 512
"""Bytes of the longest text: 128 characters of UTF-8."""


class Fingerprints:
    """Four multilinear hashes of 32 bits, with keys of their own.

    Each is strongly universal (Lemire & Kaser, 2014, "Strongly universal string hashing is fast"):
    two texts that differ, chosen without knowing the keys, have the same fingerprint with a chance
    of 2^-128. Among ten million texts there is such a pair with a chance of less than 2^-82.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        words = _LONGEST // 4
        self._keys = rng.integers(0, 2**64, (4, 2 + words), dtype=np.uint64)

    def of(self, texts: pa.StringArray) -> NDArray[np.uint64]:
        """Return uint64 `[2, n]`: a column for each text, none of them null or past 512 bytes."""
        start, length, words = _words(texts)
        sums = self._keys[:, :1] + self._keys[:, 1:2] * length.astype(np.uint64)
        # A place of all texts at a time, as many times as the longest has words.
        for place in range(-(-int(length.max(initial=0)) // 4)):
            rows = np.flatnonzero(length > 4 * place)
            left = np.minimum(length[rows] - 4 * place, 4)
            word = (words[start[rows] + 4 * place] & _MASKS[left]).astype(np.uint64)
            sums[:, rows] += self._keys[:, 2 + place, None] * word
        high = sums >> np.uint64(32)
        return np.asarray((high[::2] << np.uint64(32)) | high[1::2])


_MASKS = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], np.uint32)
"""What of a little-endian word belongs to a text that goes on for so many bytes."""


def _words(
    texts: pa.StringArray,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
    """Return where each text starts, its length, both in bytes, and the word at each byte."""
    held = np.frombuffer(texts.buffers()[1], np.int32)
    offsets = held[texts.offset :][: len(texts) + 1].astype(np.int64)
    data = texts.buffers()[2]
    first, last = int(offsets[0]), int(offsets[-1])
    padded = np.zeros(last - first + 4, np.uint8)
    if data is not None:
        padded[:-4] = np.frombuffer(data, np.uint8)[first:last]
    words: NDArray[np.uint32] = np.ndarray(len(padded) - 3, "<u4", padded, strides=(1,))
    return offsets[:-1] - first, np.diff(offsets), words
