"""Fingerprints: equal for equal texts, and for no others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.fingerprints import Fingerprints


def prints(texts: pa.StringArray, seed: int = 1) -> list[tuple[int, int]]:
    found = Fingerprints(np.random.default_rng(seed)).of(texts)
    assert found.shape == (2, len(texts))
    return [(int(high), int(low)) for high, low in found.T]


def test_of_no_texts() -> None:
    assert prints(pa.array([], pa.string())) == []


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None)
@given(st.lists(texts | st.sampled_from(["", "a", "a\0", "aa", "\0", "\0\0\0\0", "x" * 500])))
def test_equal_just_when_the_texts_are(texts: list[str]) -> None:
    found = prints(pa.array(texts, pa.string()))
    assert len(set(found)) == len(set(texts))
    assert len(set(zip(texts, found, strict=True))) == len(set(texts))


def test_of_a_slice_and_of_texts_elsewhere_the_same() -> None:
    whole = pa.array(["zero", "one", "two and more", "é" * 256, "", "end"])
    assert prints(whole.slice(2, 3)) == prints(pa.array(["two and more", "é" * 256, ""]))


def test_keys_make_the_fingerprints_others() -> None:
    one = pa.array(["one"])
    assert prints(one, seed=1) != prints(one, seed=2)
    assert prints(one, seed=1) == prints(one, seed=1)


def test_a_million_ids_that_hardly_differ() -> None:
    ids = pa.array([f"event-{number:09d}" for number in range(1_000_000)])
    found = Fingerprints(np.random.default_rng(3)).of(ids)
    for half in found:
        # 64 bits of it tell a million apart already: two are equal with a chance of 3e-8.
        assert len(np.unique(half)) == len(ids)
