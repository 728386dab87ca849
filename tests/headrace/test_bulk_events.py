"""Parsing many records at once: the same events as one by one, whatever the records."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.bulk_events import parse_events
from headrace.errors import InvalidEvent
from headrace.event_patterns import PATTERNS
from headrace.events import KINDS, MAX_AHEAD_S, MAX_BYTES, Click, Purchase, Rating, parse_event

NOW = 1_704_060_026.0
BASE: dict[str, Any] = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "timestamp": NOW}
Row = tuple[int, str, str, str, float, float | None]


def one_by_one(values: list[bytes | None], kind: str) -> list[Row]:
    rows: list[Row] = []
    for row, value in enumerate(values):
        try:
            event = parse_event(value, kind, received_at=NOW)
        except InvalidEvent:
            continue
        rating = getattr(event, "rating", None)
        rows.append((row, event.event_id, event.user_id, event.item_id, event.timestamp, rating))
    return rows


def at_once(values: list[bytes | None], kind: str) -> list[Row]:
    parsed = parse_events(values, kind, np.full(len(values), NOW))
    columns = (parsed.event_id, parsed.user_id, parsed.item_id)
    ratings = [None if math.isnan(rating) else rating for rating in parsed.rating.tolist()]
    rows = zip(
        parsed.row.tolist(),
        *(column.to_pylist() for column in columns),
        parsed.timestamp.tolist(),
        ratings,
        strict=True,
    )
    return sorted(rows)


def same_both_ways(values: list[bytes | None], kind: str) -> list[Row]:
    expected = one_by_one(values, kind)
    assert at_once(values, kind) == expected
    return expected


def matches(value: bytes, kind: str) -> bool:
    lines = pa.array([value + b"\n"], pa.binary()).cast(pa.string())
    return bool(pc.match_substring_regex(lines, PATTERNS[kind])[0].as_py())


def raw(**fields: Any) -> bytes:
    return json.dumps({**BASE, **fields}, ensure_ascii=False).encode()


def test_no_records() -> None:
    assert at_once([], "click") == []


CONTEXT = {"page": "home", "slot": 3, "ratio": -0.5, "mobile": True, "none": None, "é": "a\n\u00e9"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("click", raw()),
        ("click", raw(user_id="用户 a/b", context=CONTEXT, recommendation_id="r" * 128)),
        ("click", json.dumps({**BASE, "context": CONTEXT}, indent=None).encode()),
        ("click", msgspec.json.encode(Click(**BASE))),
        ("click", msgspec.json.encode(Click(**BASE, merged=True))),
        ("rating", raw(rating=4)),
        ("rating", msgspec.json.encode(Rating(**BASE, rating=-2.5))),
        ("purchase", raw(quantity=2, price=9.99, currency="EUR", rating=3)),
        ("purchase", msgspec.json.encode(Purchase(**BASE))),
    ],
)
def test_what_producers_write_takes_the_quick_way(kind: str, value: bytes) -> None:
    assert matches(value, kind)
    assert len(same_both_ways([value], kind)) == 1


def test_good_and_bad_records_side_by_side() -> None:
    values = [
        raw(),
        None,
        b"",
        raw(event_id="e2"),
        b"\xff",
        raw(user_id="é"),
        raw(user_id="a\nb"),
        b'{"event_id":"a"',
        b',"user_id":"b"}',
        raw(user_id='say "hi"'),
        raw(colour="red"),
        raw(timestamp=NOW * 1_000),
        raw(timestamp=None),
        raw(item_id="i" * 256),
        raw(item_id="i" * 257),
        raw(item_id="é" * 256),
        raw(item_id="é" * 257),
        raw(event_id="e" * 129),
    ]
    kept = [row[0] for row in same_both_ways(values, "click")]
    assert kept == [0, 3, 5, 9, 13, 15]


@pytest.mark.parametrize(
    ("kind", "value", "is_event"),
    [
        ("click", raw(timestamp=NOW + MAX_AHEAD_S), True),
        ("click", raw(timestamp=NOW + MAX_AHEAD_S + 1), False),
        ("click", raw(context={str(n): n for n in range(64)}), True),
        ("click", raw(context={str(n): n for n in range(65)}), False),
        ("click", raw(context={"a": {"b": 1}}), False),
        ("click", raw(context={"a": "\x7f"}), True),
        ("click", raw(type="click"), True),
        ("click", raw(type="rating"), False),
        ("click", raw(type=None), False),
        ("click", raw(rating=None), False),
        ("click", raw(user_id="a\x7f"), False),
        ("click", raw(user_id="\x85"), False),
        ("click", raw(item_id="a\u2028"), False),
        ("click", raw(event_id="a\u2029b"), False),
        ("click", raw(recommendation_id="r" * 129), False),
        ("click", raw(recommendation_id=None), True),
        ("click", raw()[:-1] + b',"user_id":"other"}', True),
        ("click", raw()[:-1] + b',"user_id":""}', False),
        ("click", raw()[:-1] + b',"timestamp":NaN}', False),
        ("click", raw()[:-1] + b',"context":{"a":"\\ud800"}}', False),
        ("click", raw()[:-1] + b',"context":{"a":01}}', False),
        ("click", raw() + b"\n" + raw(), False),
        ("click", raw() + b"\n", True),
        ("click", b"\n" + raw().replace(b", ", b",\n"), True),
        ("click", raw() + b" " * (MAX_BYTES - len(raw())), True),
        ("click", raw() + b" " * (MAX_BYTES - len(raw()) + 1), False),
        ("click", raw().replace(b"u1", b"\xed\xa0\x80"), False),
        ("click", raw().replace(b"1704060026.0", b"1.704060026e9"), True),
        ("rating", raw(), False),
        ("rating", raw(rating=None), False),
        ("rating", raw(rating=1_000), True),
        ("rating", raw(rating=1_000.5), False),
        ("rating", raw(rating=-1_001), False),
        ("rating", raw(rating="4"), False),
        ("purchase", raw(quantity=None), False),
        ("purchase", raw(quantity=1_000_000), True),
        ("purchase", raw(quantity=1_000_001), False),
        ("purchase", raw(quantity=0), False),
        ("purchase", raw(price=-1), False),
        ("purchase", raw(currency="eur"), False),
        ("purchase", raw(currency="EUR\n"), False),
        ("purchase", raw(price=None, currency=None, rating=None), True),
    ],
)
def test_at_the_bounds(kind: str, value: bytes, is_event: bool) -> None:
    # Beside a good one, which the bad one must not take with it.
    good = raw(rating=1) if kind == "rating" else raw()
    kept = [row[0] for row in same_both_ways([good, value, good], kind)]
    assert kept == ([0, 1, 2] if is_event else [0, 2])


def python_pattern(kind: str) -> str:
    """RE2's syntax in Python's."""
    return re.sub(r"\\x\{(\w+)\}", r"\\u\1", PATTERNS[kind]).replace(r"\z", r"\Z")


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_pattern_matches(kind: str) -> None:
    text = st.from_regex(python_pattern(kind)).filter(lambda each: not _has_surrogate(each))

    @settings(deadline=None, max_examples=40)
    @given(st.lists(text, max_size=3))
    def check(lines: list[str]) -> None:
        values = [line.removesuffix("\n").encode() for line in lines]
        assert all(matches(value, kind) for value in values)
        same_both_ways(list(values), kind)

    check()


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=6)
)
values_of = {
    "event_id": st.sampled_from(["e1", "e2", "", "é", "x" * 128, "x" * 129]) | scalars,
    "user_id": st.sampled_from(["u", "u\n", "\u2028", "\x85", "é" * 256, "u" * 257]) | scalars,
    "item_id": st.text(max_size=5) | scalars,
    "timestamp": st.floats(0, 2 * NOW) | st.integers(0, int(NOW)) | scalars,
    "recommendation_id": st.text(max_size=3) | scalars,
    "merged": scalars,
    "context": st.dictionaries(st.text(max_size=3), scalars, max_size=3) | scalars,
    "type": st.sampled_from(KINDS) | scalars,
    "rating": st.floats(-1_001, 1_001) | st.integers(-1_001, 1_001) | scalars,
    "quantity": st.integers(-1, 1_000_001) | scalars,
    "price": st.floats(-1, 1e20) | scalars,
    "currency": st.sampled_from(["EUR", "eur", "EURO", "EUR\n"]) | scalars,
    "colour": scalars,
}


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """Events with fields changed, added, left out or named twice, in any order and spacing."""
    fields = [*BASE.items(), *([("rating", 3.5)] if draw(st.booleans()) else [])]
    names = draw(st.lists(st.sampled_from(sorted(values_of)), max_size=3))
    changed = [(name, draw(values_of[name])) for name in names]
    if draw(st.booleans()):
        fields = [field for field in fields if field[0] not in names]
    fields = draw(st.permutations([*fields, *changed]))
    gap = draw(st.sampled_from(["", " ", "\t", "\n", "\r\n", "\x0b"]))
    ascii_only = draw(st.booleans())
    members = (
        f"{json.dumps(name)}{gap}:{gap}{json.dumps(value, ensure_ascii=ascii_only)}"
        for name, value in fields
    )
    text = f"{gap}{{{gap}{f'{gap},{gap}'.join(members)}{gap}}}{gap}"
    return text.encode(errors="surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    value = bytearray(draw(records()))
    at = draw(st.integers(0, len(value)))
    value[at : at + draw(st.integers(0, 2))] = draw(
        st.binary(max_size=2) | st.sampled_from([b'"', b"\\", b"\n", b"}{", b",", b"null", b"0"])
    )
    return bytes(value)


anything = records() | damaged() | st.binary(max_size=20) | st.none()


@settings(deadline=None)
@given(st.lists(anything, max_size=6), st.sampled_from(KINDS))
def test_both_ways_agree_on_whatever_comes(values: list[bytes | None], kind: str) -> None:
    same_both_ways(values, kind)
