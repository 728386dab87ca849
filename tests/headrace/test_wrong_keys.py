"""Which key of an object is wrong, where a decoder says that one is."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from headrace.wrong_keys import with_key


class Price(Struct):
    amount: Annotated[int, Meta(ge=0)] = 0
    currency: str = ""


class Offer(Struct):
    prices: dict[str, Price]


DECODER = msgspec.json.Decoder(list[Offer])


def first_wrong(raw: bytes) -> str:
    with pytest.raises(msgspec.ValidationError) as refused:
        DECODER.decode(raw)
    field = str(refused.value).partition(" - at `$")[2].strip("`.")
    return with_key(DECODER, raw, field)


@given(st.lists(st.text(), min_size=1, max_size=40, unique=True), st.data())
def test_the_first_key_that_is_wrong_is_named(keys: list[str], data: st.DataObject) -> None:
    wrong = data.draw(st.sets(st.sampled_from(keys), min_size=1))
    fields = {key: {"currency": 1} if key in wrong else {"amount": 1} for key in keys}
    raw = msgspec.json.encode([{"prices": {}}, {"prices": fields}])
    first = next(key for key in keys if key in wrong)
    expected = f"[1].prices[{msgspec.json.encode(first).decode()}].currency"
    assert first_wrong(raw) == expected


def test_what_is_wrong_later_is_not_named() -> None:
    prices = {"a": {"amount": 1}, "b": {"amount": -1}, "c": {"currency": 5}, "d": {"amount": -2}}
    raw = msgspec.json.encode([{"prices": prices}])
    assert first_wrong(raw) == '[0].prices["b"].amount'


def test_of_a_key_that_is_there_twice_nothing_is_told() -> None:
    raw = b'[{"prices": {"a": {"amount": -1}, "a": {"amount": 1}}}]'
    assert first_wrong(raw) == "[0].prices[...].amount"


def test_other_fields_stay_as_they_are() -> None:
    assert with_key(DECODER, b"[]", "[0].prices") == "[0].prices"
    for raw in (b"not JSON", b"[" * 100_000, b'[{"prices": {"\x80": 1}}]'):
        assert with_key(DECODER, raw, "[0].prices[...]") == "[0].prices[...]"
