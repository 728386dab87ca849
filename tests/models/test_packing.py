from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("seed", range(5))
def test_windows_lie_beside_each_other(seed: int) -> None:
    from models.training.packing import pack

    lengths = np.random.default_rng(seed).integers(1, 21, 500)
    packed = pack(lengths, 20)
    taken = np.zeros((packed.rows, 20), np.int64)
    for row, offset, length in zip(packed.row, packed.offset, lengths, strict=True):
        assert offset + length <= 20
        taken[row, offset : offset + length] += 1
    assert taken.max() == 1
    assert taken.sum() == lengths.sum()
    assert (taken.sum(axis=1) > 0).all()
    # First-fit decreasing needs at most 11/9 of the best, and 1 (Dósa, 2007).
    assert packed.rows <= 11 / 9 * np.ceil(lengths.sum() / 20) + 1


def test_what_fits_goes_together() -> None:
    from models.training.packing import pack

    packed = pack(np.array([3, 7, 5, 5, 10, 2]), 10)
    # 10; 7 and 3; 5 and 5; 2.
    assert packed.rows == 4
    assert packed.row[1] == packed.row[0]
    assert packed.row[2] == packed.row[3]


def test_nothing_takes_no_row() -> None:
    from models.training.packing import pack

    assert pack(np.zeros(0, np.int64), 10).rows == 0
