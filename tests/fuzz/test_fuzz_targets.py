"""The fuzz targets hold on their seeds, on pieces of them, and are not blind."""

from __future__ import annotations

import pytest
from fuzz_targets import TARGETS
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_on_its_seeds_and_on_damaged_ones(name: str) -> None:
    target, seeds = TARGETS[name]
    for seed in seeds:
        target(seed)

    @given(st.sampled_from(seeds), st.integers(0, 500), st.binary(max_size=6), st.integers(0, 6))
    def damaged(seed: bytes, at: int, inserted: bytes, dropped: int) -> None:
        at %= len(seed) + 1
        target(seed[:at] + inserted + seed[at + dropped :])

    damaged()


def test_a_target_sees_what_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz_targets.MAX_AHEAD_S", -1.0)
    target, seeds = TARGETS["event"]
    with pytest.raises(AssertionError):
        target(seeds[0])
