"""The one parser of events: whatever the bytes, an event or an InvalidEvent that says why."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.errors import InvalidEvent
from headrace.events import KINDS, MAX_AHEAD_S, MAX_BYTES, Click, Purchase, Rating, parse_event

NOW = 1_704_060_026.0
BASE: dict[str, Any] = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "timestamp": NOW}


def parse(kind: str | None = "click", **fields: Any) -> Any:
    wanted = {name: value for name, value in {**BASE, **fields}.items() if value is not ...}
    return parse_event(json.dumps(wanted).encode(), kind, received_at=NOW)


def refused(kind: str | None = "click", **fields: Any) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        parse(kind, **fields)
    return caught.value


def test_an_event_of_each_kind_from_kafka() -> None:
    assert parse("click") == Click(**BASE)
    assert parse("rating", rating=4.5) == Rating(**BASE, rating=4.5)
    assert parse("purchase", quantity=2, price=9.5, currency="EUR", rating=3) == Purchase(
        **BASE, quantity=2, price=9.5, currency="EUR", rating=3.0
    )
    assert [parse("click").kind, parse("purchase").kind] == ["click", "purchase"]


def test_over_http_the_type_says_the_kind() -> None:
    assert parse(None, type="click") == Click(**BASE)
    assert parse(None, type="rating", rating=1) == Rating(**BASE, rating=1.0)
    assert parse(None, type="purchase") == Purchase(**BASE)


def test_over_kafka_a_type_must_agree_with_the_topic() -> None:
    assert parse("rating", type="rating", rating=1).kind == "rating"
    assert refused("rating", type="click", rating=1).field == "type"


def test_what_may_be_there_is_kept() -> None:
    context = {"page": "home", "slot": 3, "ratio": 0.5, "mobile": True, "none": None}
    event = parse(recommendation_id="r" * 128, context=context)
    assert event.recommendation_id == "r" * 128
    assert event.context == context


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", ["event_id", "user_id", "item_id", "timestamp"])
def test_a_missing_field_is_named(kind: str, field: str) -> None:
    error = refused(kind, **{"rating": 1.0} if kind == "rating" else {}, **{field: ...})
    assert (error.field, error.reason) == (field, "is required")


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *[
            (None, name, value)
            for name, longest in (("event_id", 128), ("user_id", 256), ("item_id", 256))
            for value in (
                "",
                "x" * (longest + 1),
                5,
                None,
                "a\x00b",
                "a\nb",
                "a\n",
                "a\x7f",
                "\x85",
            )
        ],
        (None, "item_id", "a\u2028"),
        (None, "timestamp", -1),
        (None, "timestamp", "1704060026"),
        (None, "timestamp", None),
        (None, "timestamp", True),
        (None, "timestamp", NOW * 1_000),
        (None, "timestamp", NOW + MAX_AHEAD_S + 1),
        (None, "timestamp", 10**400),
        (None, "recommendation_id", ""),
        (None, "recommendation_id", "r" * 129),
        (None, "context", []),
        (None, "context", {str(n): n for n in range(65)}),
        (None, 'context["a"]', {"a": {"nested": 1}}),
        (None, 'context["a"]', {"a": [1]}),
        (None, 'context["a"]', {"a": 10**400}),
        (None, "type", "view"),
        (None, "type", 3),
        (None, "type", ...),
        (None, "colour", "red"),
        ("click", "rating", 4.0),
        ("click", "quantity", 1),
        ("rating", "rating", ...),
        ("rating", "rating", None),
        ("rating", "rating", "4"),
        ("rating", "rating", 1_001),
        ("rating", "rating", -1_001),
        ("purchase", "quantity", 0),
        ("purchase", "quantity", 1_000_001),
        ("purchase", "quantity", 1.5),
        ("purchase", "price", -0.01),
        ("purchase", "currency", "eur"),
        ("purchase", "currency", "EURO"),
        ("purchase", "currency", "EUR\n"),
        ("purchase", "rating", 1_001),
    ],
)
def test_a_wrong_field_is_named_with_a_reason(kind: str | None, field: str, value: Any) -> None:
    fields = {"rating": 1.0} if kind == "rating" else {}
    if kind is None:
        fields["type"] = "click"
    error = refused(kind, **{**fields, field.partition("[")[0]: value})
    assert error.field == field
    assert error.reason
    assert str(error) == f"{field}: {error.reason}"


@pytest.mark.parametrize("user_id", ["a b", "{x}", "100%", "Ærøskøbing", "用户", "a/b", "é" * 256])
def test_ids_may_be_any_printable_text(user_id: str) -> None:
    assert parse(user_id=user_id).user_id == user_id


def test_a_timestamp_may_be_whole_or_a_fraction_and_a_little_ahead() -> None:
    assert parse(timestamp=int(NOW)).timestamp == NOW
    assert parse(timestamp=1704060026.123457).timestamp == 1704060026.123457
    assert parse(timestamp=NOW + MAX_AHEAD_S).timestamp == NOW + MAX_AHEAD_S


def test_milliseconds_are_called_milliseconds() -> None:
    assert "not milliseconds" in refused(timestamp=NOW * 1_000).reason


def test_an_unknown_field_is_told_of_context() -> None:
    assert "context" in refused(colour="red").reason


def test_the_longest_record_is_read_and_a_longer_one_is_not() -> None:
    raw = json.dumps(BASE).encode()
    padded = raw[:-1] + b" " * (MAX_BYTES - len(raw)) + b"}"
    assert parse_event(padded, "click", received_at=NOW) == Click(**BASE)
    with pytest.raises(InvalidEvent, match="65,537 bytes long; at most 65,536"):
        parse_event(padded + b" ", "click", received_at=NOW)


NESTED = b'{"event_id":"e","context":' + b'{"a":' * 12_000 + b"1" + b"}" * 12_001
DEEP_LIST = b"[" * 30_000 + b"]" * 30_000
WRONG_BYTES = [
    b"",
    b"null",
    b"[]",
    b"5",
    b"\xff\xfe",
    b"not json",
    json.dumps(BASE).encode()[:-1],
    json.dumps(BASE).encode() + b"x",
    json.dumps(BASE).encode("utf-16"),
    json.dumps({**BASE, "user_id": "\ud800"}).encode(),
    json.dumps({**BASE, "context": {"\udfff": 1}}).encode(),
    json.dumps(BASE).encode().replace(b"u1", b"\xff"),
    json.dumps(BASE).encode().replace(b"u1", b"\xed\xa0\x80"),
    json.dumps(BASE).encode().replace(b'"user_id"', b'"\xff"'),
    json.dumps(BASE).encode()[:-1] + b', "timestamp": NaN}',
    json.dumps(BASE).encode()[:-1] + b', "timestamp": 1e999}',
    json.dumps(BASE).encode()[:-1] + b', "context": {"a": ' + b"1" * 5_000 + b"}}",
    json.dumps(BASE).encode()[:-1] + b', "x` - at `$.user_id": 1}',
    NESTED,
    DEEP_LIST,
]


@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("raw", WRONG_BYTES, ids=range(len(WRONG_BYTES)))
def test_wrong_bytes_are_an_invalid_event(raw: bytes, kind: str | None) -> None:
    with pytest.raises(InvalidEvent):
        parse_event(raw, kind, received_at=NOW)


def test_a_record_without_a_value_is_an_invalid_event() -> None:
    with pytest.raises(InvalidEvent, match="no value"):
        parse_event(None, "click", received_at=NOW)


def parses_or_is_invalid(raw: bytes, kind: str | None) -> None:
    """Nothing but `InvalidEvent` leaves the parser, and what it accepts can be stored and sent."""
    try:
        event = parse_event(raw, kind, received_at=NOW)
    except InvalidEvent as error:
        str(error).encode(errors="backslashreplace")
        error.field.encode()
        return
    assert event.kind in KINDS
    again = msgspec.json.encode(event)
    assert parse_event(again, event.kind, received_at=NOW) == event
    for text in (event.event_id, event.user_id, event.item_id):
        text.encode()


kinds = st.sampled_from([None, *KINDS])


@given(st.binary(max_size=300), kinds)
def test_arbitrary_bytes(raw: bytes, kind: str | None) -> None:
    parses_or_is_invalid(raw, kind)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(st.characters(exclude_categories=()), max_size=20)
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(json_values, kinds)
def test_arbitrary_json(value: Any, kind: str | None) -> None:
    parses_or_is_invalid(json.dumps(value).encode(), kind)


NAMES = [
    *("type", "event_id", "user_id", "item_id", "timestamp", "recommendation_id", "context"),
    *("merged", "rating", "quantity", "price", "currency"),
]
likely_values = (
    st.sampled_from(["click", "rating", "purchase", "EUR", "e1", "", 1, 4.5, NOW, -1, None])
    | st.integers(-(10**30), 10**30)
    | json_values
)


@given(st.dictionaries(st.sampled_from(NAMES), likely_values), kinds)
@example({"context": {"a": 2**64}}, "click")
@example({"context": {"a": 2**53}}, "click")
def test_almost_events(fields: dict[str, Any], kind: str | None) -> None:
    parses_or_is_invalid(json.dumps({**BASE, **fields}).encode(), kind)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=3), kinds)
def test_damaged_events(at: int, damage: bytes, kind: str | None) -> None:
    raw = bytearray(json.dumps({**BASE, "type": "click", "context": {"é": "\U0001f600"}}).encode())
    raw[at : at + len(damage)] = damage
    parses_or_is_invalid(bytes(raw), kind)
