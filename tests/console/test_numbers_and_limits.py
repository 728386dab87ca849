"""Numbers as people read them, and what may be typed: limits, times, parameters, items."""

from __future__ import annotations

import pytest

from console import formats
from console.limits import Limit
from console.pages.items.item_form import read_attributes, read_categories
from console.pages.models.train_form import read_parameters, read_time


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (formats.count(12_345), "12,345"),
        (formats.count(None), "no data yet"),
        (formats.events(1), "1 event"),
        (formats.events(12_345), "12,345 events"),
        (formats.share(0.4123), "41.2\u00a0%"),
        (formats.points(-0.084), "\N{MINUS SIGN}8.4"),
        (formats.milliseconds(0.84), "0.84\u00a0ms"),
        (formats.milliseconds(43.2), "43\u00a0ms"),
        (formats.milliseconds(1_200), "1.20\u00a0s"),
        (formats.milliseconds(None), "no data yet"),
        (formats.duration(200), "3\u00a0min 20\u00a0s"),
        (formats.duration(90_000), "1\u00a0d 1\u00a0h"),
        (formats.duration(300), "5\u00a0min"),
        (formats.duration(7_200), "2\u00a0h"),
        (formats.rate(0.25), "0.25/s"),
        (formats.rate(0), "0/s"),
        (formats.plain(0.000123), "0.000123"),
        (formats.plain(True), "yes"),
        (formats.points(-0.0001), "+0.0"),
        (formats.exact(12.99), "12.99"),
        (formats.exact(1234567.89), "1234567.89"),
        (formats.exact(0.0012345), "0.0012345"),
        (formats.exact(13.0), "13"),
        (formats.exact(1995), "1995"),
        (formats.exact(None), "null"),
        (formats.exact("null"), "null"),
    ],
)
def test_numbers_are_shown_as_people_read_them(shown: str, words: str) -> None:
    assert shown == words


@pytest.mark.parametrize(
    ("limit", "typed", "value"),
    [
        (Limit("integer", 1, 1_000), "20", 20),
        (Limit("number", 0.0001, 0.01), " 0.001 ", 0.001),
        (Limit("string", longest=5), "abc", "abc"),
        (Limit("enum", among=("full",)), "full", "full"),
    ],
)
def test_what_is_within_the_limits_is_read(limit: Limit, typed: str, value: object) -> None:
    assert limit.read(typed) == value


@pytest.mark.parametrize(
    ("limit", "typed", "named"),
    [
        (Limit("integer", 1, 1_000), "0", "0 is out of range: .* from 1 to 1,000"),
        (Limit("integer", 1, 1_000), "1.5", "'1.5' is not a whole number from 1 to 1,000"),
        (Limit("number", 0.0001, 0.01), "1", "1 is out of range: .* from 0.0001 to 0.01"),
        (Limit("number", 0.0001, 0.01), "nan", "nan is out of range"),
        (Limit("number", 0, below=1), "1", "must be a number of 0 or more and below 1"),
        (Limit("number", most=1, above=0), "0", "must be a number above 0 and of 1 or less"),
        (Limit("string", longest=5), "abcdef", "6 characters"),
        (Limit("enum", among=("full",)), "half", "one of full"),
    ],
)
def test_what_is_not_says_what_it_may_be(limit: Limit, typed: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        limit.read(typed)


ATTRIBUTES = Limit(
    "object", entries=2,
    each=(Limit("string"), Limit("integer", -(2**53), 2**53), Limit("number"), Limit("boolean")),
)  # fmt: skip


CATEGORIES = Limit("array", entries=2, each=(Limit("string", longest=5),))


PARAMETERS = Limit(
    "object", entries=2, each=(Limit("number"),),
    names=Limit("string", longest=64, among=("dropout", "width", "heads")),
    named={"dropout": Limit("number", 0, below=1), "width": Limit("integer", 8, 512)},
)  # fmt: skip


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (read_time("2026-11-01T00:00Z"), "2026-11-01T00:00Z"),
        (read_time("1970-01-01"), "1970-01-01"),
        (read_time("1700000000"), 1_700_000_000.0),
        (read_parameters("dropout=0.3\n\n width = 32 ", PARAMETERS), {"dropout": 0.3, "width": 32}),
        (read_attributes('{"a": 1, "b": true}', ATTRIBUTES), {"a": 1, "b": True}),
        (read_attributes(" ", ATTRIBUTES), {}),
        (read_categories("tea\n\n pots ", CATEGORIES), ["tea", "pots"]),
    ],
)
def test_times_parameters_and_what_items_hold_are_read(read: object, value: object) -> None:
    assert read == value


@pytest.mark.parametrize("typed", ["1950-01-01", "0001-01-01", "-1", "nan", "1e999", "soon"])
def test_no_time_is_before_1970_or_without_end(typed: str) -> None:
    with pytest.raises(ValueError, match=f"{typed!r} is no time"):
        read_time(typed)


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("dropout", "'dropout' is not a name, = and a number"),
        ("dropout=much", "dropout: 'much' is not a number"),
        ("dropout=inf", "dropout: inf is out of range"),
        ("dropout=2", "dropout: 2 is out of range: it must be a number of 0 or more and below 1"),
        ("width=4", "width: 4 is out of range: it must be a whole number from 8 to 512"),
        ("dropout=0\ndropout=1", "dropout is there twice"),
        ("dropuot=1", "'dropuot' is no training parameter; did you mean dropout"),
        ("epochs=1", "epochs has a field of its own"),
        ("dropout=0\nwidth=8\nheads=1", "There are 3; there may be 2"),
    ],
)
def test_what_is_no_parameter_says_why(typed: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_parameters(typed, PARAMETERS)


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": 1e999}', "a: the number is too large"),
        ('{"a": 9007199254740993}', "a: 9007199254740993 is out of range"),
        ('{"a": "\\ud800"}', "half of a character"),
        ('{"a": {}}', "a: values must be text"),
        ('{"a": 1, "b": 2, "c": 3}', "There are 3; there may be 2"),
        ("[]", "an object in braces"),
        ("{", "It is not JSON"),
    ],
)
def test_what_no_item_can_hold_says_why(typed: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_attributes(typed, ATTRIBUTES)


@pytest.mark.parametrize(
    ("typed", "named"), [("a\nb\nc", "There are 3"), ("teapots", "7 characters")]
)
def test_categories_keep_to_their_limits(typed: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_categories(typed, CATEGORIES)
