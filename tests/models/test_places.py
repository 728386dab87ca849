"""Where ids stand: what a dictionary says, for many at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.retrieval.places import UNKNOWN, Places

IDS = [f"item-{number}" for number in range(5_000)]


@given(st.lists(st.text(), unique=True), st.lists(st.text(), unique=True), st.lists(st.text()))
def test_it_says_what_a_dictionary_says(
    first: list[str], later: list[str], asked: list[str]
) -> None:
    places, known = Places(first), {at: place for place, at in enumerate(first)}
    for item_id in later:
        if item_id not in known:
            known[item_id] = len(known)
            places.add(item_id, known[item_id])
    everything = [*first, *later, *asked]
    assert places.of(everything).tolist() == [known.get(at, UNKNOWN) for at in everything]
    assert [places.get(at) for at in everything] == [known.get(at) for at in everything]


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 5_000])
def test_all_are_found_although_buckets_overflow(size: int) -> None:
    places = Places(IDS[:size])
    assert places.of(IDS[:size]).tolist() == list(range(size))
    assert (places.of(IDS[size:]) == UNKNOWN).all()
    assert places.of([]).tolist() == []
