"""What is fuzzed: each target takes any bytes and fails when what it promises does not hold.

`make fuzz` runs them under atheris, `test_fuzz_targets.py` on their seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np

from headrace.bulk_events import parse_events
from headrace.catalog import parse_item
from headrace.erasures import decode_erasure
from headrace.errors import InvalidCursor, InvalidErasure, InvalidEvent, InvalidToken
from headrace.events import KINDS, MAX_AHEAD_S, decode, parse_event
from headrace.keys import split_key
from headrace.tokens import Token
from headrace.training_requests import TrainingRequest, parse_request
from models.retrieval.filters import parse_filter
from serving.cursor import read_cursor, write_cursor
from serving.nesting import is_too_deep
from serving.problems import Problem, respond, wrong_field
from serving.schemas.items import ItemBody
from serving.schemas.recommendations import RecommendationRequest
from serving.schemas.users import MergeRequest, TokenRequest
from serving.user_tokens import read_token
from serving.values import value_at

NOW = 1_704_060_026.0
BODIES = (ItemBody, MergeRequest, RecommendationRequest, TokenRequest, TrainingRequest)
_SECRET = b"s" * 32


def event(raw: bytes) -> None:
    """A record is an event that can be written and read again, or `InvalidEvent`."""
    for kind in (None, *KINDS):
        try:
            found = parse_event(raw, kind, received_at=NOW)
        except InvalidEvent:
            continue
        assert 0 <= found.timestamp <= NOW + MAX_AHEAD_S
        assert found.user_id.isprintable() or not found.user_id.isascii()
        assert parse_event(msgspec.json.encode(found), None, received_at=NOW) == found


def bulk(raw: bytes) -> None:
    """Records parsed at once, split at newlines, are those parsed one by one."""
    values: list[bytes | None] = list(raw.split(b"\n"))
    for kind in KINDS:
        expected = []
        for row, value in enumerate(values):
            with suppress(InvalidEvent):
                one = parse_event(value, kind, received_at=NOW)
                rating = getattr(one, "rating", None)
                expected.append(
                    (row, one.event_id, one.user_id, one.item_id, one.timestamp, rating)
                )
        parsed = parse_events(values, kind, np.full(len(values), NOW))
        ratings = [None if math.isnan(each) else each for each in parsed.rating.tolist()]
        ids = (parsed.event_id, parsed.user_id, parsed.item_id)
        columns = [column.to_pylist() for column in ids]
        rows = zip(parsed.row.tolist(), *columns, parsed.timestamp.tolist(), ratings, strict=True)
        assert sorted(rows) == expected


def item(raw: bytes) -> None:
    """A record is an item that can be written and read again, or `InvalidItem`."""
    with suppress(InvalidEvent):
        found = parse_item(raw)
        assert parse_item(msgspec.json.encode(found)) == found


def erasure(raw: bytes) -> None:
    """A record is an erasure or `InvalidErasure`."""
    with suppress(InvalidErasure):
        found = decode_erasure(raw)
        assert decode_erasure(msgspec.json.encode(found)) == found
        for topic in found.through:
            assert found.end(topic, 0) >= 0


def body(raw: bytes) -> None:
    """A request's body is of its type, or makes a problem document that can be sent."""
    if is_too_deep(raw):
        return
    for of in BODIES:
        decoder = msgspec.json.Decoder(of)
        try:
            found = decode(decoder, raw, InvalidEvent)
        except InvalidEvent as error:
            told = wrong_field(error.field, error.reason, value_at(raw, error.field))
            sent = json.loads(bytes(respond(Problem(422, str(error), [told])).body))
            assert len(sent["errors"][0].get("value", "")) <= 101
            continue
        assert decode(decoder, msgspec.json.encode(found), InvalidEvent) == found


def retrain(raw: bytes) -> None:
    """A message of the topic `retrain` is a request, or `InvalidEvent`."""
    with suppress(InvalidEvent):
        parse_request(raw)


def filters(raw: bytes) -> None:
    """A filter is read, the same again from what it was, or `InvalidFilter`."""
    if is_too_deep(raw):
        return
    try:
        given = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    with suppress(InvalidEvent):
        assert parse_filter(given) == parse_filter(msgspec.json.decode(msgspec.json.encode(given)))


def credentials(raw: bytes) -> None:
    """Cursors, tokens of events and of users, and keys: read, or refused in words."""
    text = raw.decode("latin-1")
    with suppress(InvalidCursor):
        shown = read_cursor(text)
        again = write_cursor(shown)
        assert again is None or read_cursor(again) == shown
    with suppress(InvalidToken):
        assert str(Token.parse(text)) == text
    for given in (text, f"hu_{text}"):
        with suppress(Problem):
            # Nobody without the secret can have signed it.
            assert read_token(given, _SECRET, now=NOW) is None
    found = split_key(text)
    assert found is None or f"hr_{found[0]}_{found[1]}" == text


_EVENT: dict[str, Any] = {
    "type": "rating",
    "event_id": "e1",
    "user_id": "u",
    "item_id": "i",
    "timestamp": NOW,
    "rating": 4.5,
    "recommendation_id": None,
    "context": {"page": "home", "slot": 3, "mobile": True, "none": None},
    "merged": False,
}
_PURCHASE = {
    **{name: value for name, value in _EVENT.items() if name not in ("rating", "type")},
    "quantity": 2,
    "price": 9.99,
    "currency": "EUR",
}
_ITEM = {
    "item_id": "i",
    "title": "T",
    "categories": ["a"],
    "price": 1,
    "attributes": {"year": 1995},
}
_FILTER = {
    "categories": {"any": ["a"]},
    "not": {"or": [{"price": {"gte": 5, "lt": 2e1}}, {"x": {"in": [1]}}]},
}
_ERASURE = {
    "user_id": "u",
    "at": 1.5,
    "topic_ids": {"clicks": "a"},
    "through": {"clicks": {"0": 7}},
}
_ASKED = {
    "user_id": "u",
    "k": 3,
    "after": ["clicks.3.4711"],
    "timeout_ms": 5,
    "exclude_ids": ["i"],
    "filter": _FILTER,
    "diversity": 0.5,
    "explain": True,
}


def _lines(*values: object) -> bytes:
    return b"\n".join(json.dumps(value).encode() for value in values)


Target = Callable[[bytes], None]
TARGETS: dict[str, tuple[Target, tuple[bytes, ...]]] = {
    "event": (event, (_lines(_EVENT), _lines(_PURCHASE), b'{"user_id": "\\u2028"}')),
    "bulk": (bulk, (_lines(_EVENT, _PURCHASE, _ITEM), b"\xff\n\n{}\n" + _lines(_PURCHASE))),
    "item": (item, (_lines(_ITEM),)),
    "erasure": (erasure, (_lines(_ERASURE),)),
    "body": (
        body,
        (
            _lines(_ASKED),
            _lines({"user_interactions": {"i": {"timestamp": 1, "rating": 2, "event": "click"}}}),
            _lines({name: value for name, value in _ITEM.items() if name != "item_id"}),
            _lines({"scopes": ["recommend"], "expires_s": 900}),
            _lines({"reason": "r", "params": {"epochs": 1}, "idempotency_key": "k"}),
            _lines({"from": "anon", "from_token": "hu_x", "timeout_ms": 1}),
        ),
    ),
    "retrain": (
        retrain,
        (
            _lines({"epochs": 0, "reason": "r"}),
            _lines({"schema": {"format": "xml"}, "from": {"clicks": {"0": 1}}, "seed": 1}),
        ),
    ),
    "filters": (filters, (_lines(_FILTER), b'{"and": [{"a": {"exists": true}}]}')),
    "credentials": (
        credentials,
        (
            b"clicks.3.4711",
            (write_cursor(["a", "b"]) or "").encode(),
            b"hu_e30.c2ln",
            b"hr_0123456789ab_" + b"x" * 43,
        ),
    ),
}
