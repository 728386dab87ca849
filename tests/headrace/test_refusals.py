"""What an import refuses is told by kind: the field and the rule, with a count and an example."""

from __future__ import annotations

import io
import json

import pytest

from headrace.errors import InvalidEvent
from headrace.events import parse_event
from headrace.importing.refusals import Refusals, Refused

NOW = 1_704_060_026.0
BASE = {"event_id": "e", "user_id": "u", "item_id": "i", "timestamp": NOW}


def refuse(refusals: Refusals, row: int, **fields: object) -> None:
    data = {**BASE, "type": "rating", "rating": 3, **fields}
    with pytest.raises(InvalidEvent) as caught:
        parse_event(json.dumps(data).encode(), None, received_at=NOW)
    refusals.add(Refused("f.csv", row, caught.value, data))


def test_reasons_that_differ_in_their_values_alone_are_one() -> None:
    refusals = Refusals()
    for row in range(1, 8):
        refuse(refusals, row, timestamp=NOW + 1_000 * row)
    refuse(refusals, 8, rating=1_001)
    refuse(refusals, 9, rating=-1_001)
    refuse(refusals, 10, rating="5")
    refuse(refusals, 11, type="view")
    refuse(refusals, 12, type="view 2")
    told = {reason.kind: (reason.count, reason.first[0]) for reason in refusals.reasons}
    assert told == {
        "timestamp: … is more than … seconds past the record's own time, …; send Unix seconds, "
        "not milliseconds": (7, ("f.csv", 1)),
        "rating: Expected `float` <= …": (1, ("f.csv", 8)),
        "rating: Expected `float` >= …": (1, ("f.csv", 9)),
        "rating: Expected `float`, got `str`": (1, ("f.csv", 10)),
        "type: Invalid value …; it is one of click, purchase, rating": (2, ("f.csv", 11)),
    }
    first = refusals.reasons[0]
    assert first.example.startswith(f"timestamp: {NOW + 1_000:.15g} is more than 300 seconds")
    assert [row for _, row in first.first] == [1, 2, 3, 4, 5]
    assert refusals.count == 12


@pytest.mark.parametrize(
    "reasons",
    [
        ("-5 is too small", "5 is too small", "1e-7 is too small", "nan is too small"),
        ("no column 'a'", 'no column "b"', r"no column 'it\'s'", "no column '5'"),
        ("the record's 5 and don't fit", "the record's 6 and don't fit"),
        ("the record is 70,123 bytes long", "the record is 99,000 bytes long"),
    ],
)
def test_whatever_the_value_looks_like_it_makes_no_kind(reasons: tuple[str, ...]) -> None:
    refusals = Refusals()
    for row, reason in enumerate(reasons):
        refusals.add(Refused("f", row, InvalidEvent(f"categories[{row}]", reason), None))
    [told] = refusals.reasons
    assert (told.count, told.example) == (len(reasons), f"categories[0]: {reasons[0]}")


def test_other_fields_and_other_rules_are_other_kinds_up_to_a_number() -> None:
    file = io.BytesIO()
    refusals = Refusals(file)
    for row in range(60):
        name = "".join(chr(ord("a") + int(digit)) for digit in str(row))
        refusals.add(Refused("f", row, InvalidEvent(name, "is required"), {}))
    assert len(refusals.reasons) == 51
    assert refusals.reasons[0].kind == "other reasons"
    assert refusals.reasons[0].count == 10
    assert len(file.getvalue().splitlines()) == 60
