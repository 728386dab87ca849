"""What a training is asked for with: what is wrong is named with its value and what it may be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.errors import InvalidEvent
from headrace.settings import Settings
from headrace.training_data import DataSchema
from headrace.training_requests import TrainingRequest, check_request, parse_request, request_of


def test_a_request_is_read() -> None:
    raw = (
        b'{"idempotency_key": "k", "params": {"width": 32}, "epochs": 3, "from": "2026-11-01",'
        b'"to": {"clicks": {"0": 7}}, "seed": 5}'
    )
    request = parse_request(raw)
    assert request == TrainingRequest(
        idempotency_key="k", params={"width": 32.0}, epochs=3, seed=5,
        from_="2026-11-01", to={"clicks": {"0": 7}},
    )  # fmt: skip
    check_request(request, Settings())
    parameters = request.parameters(Settings())
    assert (parameters.width, parameters.epochs, parameters.seed) == (32, 3, 5)
    assert request.offsets() == (None, {"clicks": {"0": 7}})


def test_a_form_says_the_same_in_text() -> None:
    fields = {
        "epochs": "3", "learning_rate": "0.001", "force": "true", "reason": "12",
        "params": '{"width": 32}', "from": "1704060026.5", "schema": '{"type": "rating"}',
    }  # fmt: skip
    request = request_of(fields)
    assert request == TrainingRequest(
        epochs=3, learning_rate=0.001, force=True, reason="12", params={"width": 32.0},
        from_=request.from_, schema=DataSchema(type="rating"),
    )  # fmt: skip
    assert request.between() == (1_704_060_026.5, None)
    # What may be a date is not taken for a number.
    assert request_of({"to": "20261101"}).to == "20261101"
    assert request_of({"to": "0"}).to == 0


@pytest.mark.parametrize(
    ("bound", "unix_s"),
    [
        (1_704_060_026, 1_704_060_026.0),
        ("2024-01-01T00:00:00Z", 1_704_067_200.0),
        ("2024-01-01T01:00+01:00", 1_704_067_200.0),
        ("2024-01-01", 1_704_067_200.0),
    ],
)
def test_a_time_is_unix_seconds_or_iso_8601_and_utc_if_it_does_not_say(
    bound: Any, unix_s: float
) -> None:
    assert TrainingRequest(from_=bound).between() == (unix_s, None)


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        (None, "", "no value"),
        (b"", "", "not JSON"),
        (b"\xff", "", "not JSON"),
        # Wrong in a field and, behind it, in a way that Python cannot hold.
        (b'{"epochs": 0, "reason": ', "epochs", "must be a whole number from 1 to 1,000"),
        (b'{"epochs": 1e999}', "epochs", "must be a whole number from 1 to 1,000"),
        (b'{"epochs": "\xff"}', "epochs", "must be a whole number from 1 to 1,000"),
        (b'{"epochs": ' + b"[" * 100_000, "epochs", "must be a whole number from 1 to 1,000"),
        (b'{"schema": {"format": "x"}, "schema": 3}', "schema.format", "must be one of jsonl"),
        ({"idempotency_key": ""}, "idempotency_key", ""),
        ({"model_id": "../x"}, "model_id", '"../x"; it must be lowercase letters'),
        ({"model_id": "x\n"}, "model_id", "at most 63"),
        ({"model_id": "-x"}, "model_id", "no hyphen first"),
        ({"kind": "boosting"}, "kind", 'is "boosting"; it must be one of retrieval, items, rank'),
        ({"epochs": 0}, "epochs", "is 0; it must be a whole number from 1 to 1,000"),
        ({"epochs": 1001}, "epochs", "is 1001; it must be a whole number from 1 to 1,000"),
        ({"epochs": "3"}, "epochs", 'is "3"; it must be a whole number'),
        ({"learning_rate": 0.1}, "learning_rate", "is 0.1; it must be a number from 0.0001 to"),
        ({"train_split_ratio": 0.4}, "train_split_ratio", "is 0.4; it must be a number from 0.5"),
        ({"mode": "half"}, "mode", 'is "half"; it must be one of incremental, full'),
        ({"seed": -1}, "seed", "is -1; it must be a whole number from 0"),
        (
            {"kind": "retrieval", "algorithm": "magic"},
            "algorithm",
            "'magic'; retrieval has transformer",
        ),
        ({"from": "yesterday"}, "from", "'yesterday'; it must be Unix seconds, a time like"),
        ({"from": {"items": {"0": 1}}}, "from", "'items' is no topic that is trained"),
        ({"to": {"clicks": {"x": 1}}}, "to.clicks", "'x' is no partition"),
        ({"to": {"clicks": {"00": 1}}}, "to.clicks", "'00' is no partition"),
        ({"from": 9, "to": 9}, "to", "not after `from`"),
        ({"from": {"books-clicks": {"0": 1}}}, "from", "there are clicks, purchases, ratings"),
        ({"from": {"clicks": {"0": -1}}}, "from", '{"clicks":{"0":-1}}; it must be Unix seconds'),
        ({"from": {"clicks": {"0": 9}}, "to": {"clicks": {"0": 8}}}, "to.clicks.0", "`from`, 9"),
        ({"from": "nan"}, "from", "is 'nan'; it must be Unix seconds"),
        ({"to": "inf"}, "to", "is 'inf'; it must be Unix seconds"),
        # It is no second of the year 1970 that is meant.
        ({"from": "20261101"}, "from", "is '20261101'; it must be Unix seconds, a time like"),
        ({"to": "2026"}, "to", "is '2026'; it must be Unix seconds, a time like"),
        ({"from": "-5"}, "from", "is '-5'; it must be Unix seconds"),
        ({"from": "1969-12-31"}, "from", "is '1969-12-31'; it must be Unix seconds"),
        ({"params": {"width": "32"}}, "params", '{"width":"32"}; it must be numbers by the names'),
        ({"params": {"dropout": 2}}, "params", "dropout has value 2.0. Expected `float` < 1.0"),
        ({"params": {"heads": 3}}, "params", "heads has value 3, of which the width, 64, is no"),
        ({"force": "yes"}, "force", 'is "yes"; it must be true or false'),
        ({"params": {"widht": 32}}, "params", "did you mean width"),
        ({"params": {"epochs": 5000}}, "params.epochs", "field of its own"),
        ({"colour": 1}, "colour", "is not a field"),
        ({"reason": "r" * 513}, "reason", "it must be a text of at most 512 characters"),
        ({"schema": {"format": "xml"}}, "schema.format", 'is "xml"; it must be one of jsonl, csv'),
        ({"schema": {"columns": {"user": "u"}}}, "schema", "'user' is not a field; there are"),
        ({"schema": {"constants": {"timestamp": "x"}}}, "schema", "timestamp: 'x' is not a number"),
        ({"kind": "ranking", "with_feedback": True}, "with_feedback", "is true; a second stage"),
        # What would be trained to serve nothing.
        ({"kind": "ranking"}, "kind", "under default it would serve nothing. Ask for it there"),
        (
            {"model_id": "ranking", "kind": "items"},
            "kind",
            "is items, and model ranking is the second stage (HEADRACE_SERVING_RANKING_MODEL_ID)",
        ),
    ],
)
def test_what_cannot_be_asked_for_is_named(asked: Any, field: str, words: str) -> None:
    raw = json.dumps(asked).encode() if isinstance(asked, dict) else asked
    with pytest.raises(InvalidEvent) as caught:
        check_request(parse_request(raw), Settings())
    assert caught.value.field == field
    assert words in caught.value.reason
    assert field == "" or not caught.value.reason.startswith(f"{field}.")
