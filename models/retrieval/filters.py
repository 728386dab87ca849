"""Filters on items: which ones a request is about, as JSON and as frozen types.

A filter is an object whose every member must hold. A member is a field of the item with a
condition, or `and`, `or`, `not` with filters of their own:

    {"categories": {"any": ["Comedy"]}, "price": {"gte": 5, "lt": 20},
     "not": {"year": {"in": [1995, 1996]}}}

A field is `item_id`, `title`, `price`, `categories`, or one of the item's attributes; an item's own
fields come before an attribute of the same name. A condition on a field that the item has not does
not hold, so its `not` does. Numbers compare with numbers, text with text, letter for letter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from headrace.errors import InvalidFilter
from headrace.events import ExactInt

MAX_DEPTH = 8
"""Filters within filters."""
MAX_CONDITIONS = 64
"""In a whole filter: each is a look at a column of all items."""
MAX_VALUES = 1_000
"""In the lists of a whole filter."""

Value = Union[Annotated[str, Meta(max_length=1_024)], bool, ExactInt, float]
Number = Union[ExactInt, float]
_Values = Annotated[tuple[Value, ...], Meta(min_length=1, max_length=MAX_VALUES)]


class Condition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What must be true of a field; of several members, each."""

    eq: Value | UnsetType = UNSET
    """The value is this one."""
    in_: _Values | UnsetType = msgspec.field(default=UNSET, name="in")
    """The value is one of these."""
    any: _Values | UnsetType = UNSET
    """Of `categories`: one of them is among these."""
    all: _Values | UnsetType = UNSET
    """Of `categories`: these are all among them."""
    gt: Number | UnsetType = UNSET
    gte: Number | UnsetType = UNSET
    lt: Number | UnsetType = UNSET
    lte: Number | UnsetType = UNSET
    exists: bool | UnsetType = UNSET
    """Whether the item has the field at all."""


class Field(Struct, frozen=True):
    """Items of whose field the condition holds."""

    name: str
    condition: Condition


class And(Struct, frozen=True):
    """Items for which all of these hold."""

    parts: tuple[Node, ...]


class Or(Struct, frozen=True):
    """Items for which one of these holds."""

    parts: tuple[Node, ...]


class Not(Struct, frozen=True):
    """Items for which this does not hold."""

    part: Node


Node = Union[Field, And, Or, Not]


class Filter(Struct, frozen=True):
    """A filter that has been read and checked."""

    root: Node
    key: bytes
    """The same for the same filter, in whatever order its members came."""


def parse_filter(raw: Mapping[str, Any], at: str = "filter") -> Filter:
    """Read a filter from decoded JSON. Raises `InvalidFilter`, naming the member.

    `at`: where the filter stands.
    """
    reader = _Reader()
    root = reader.filter(raw, at, 1)
    canonical = msgspec.json.encode(raw, order="deterministic")
    return Filter(root, hashlib.blake2b(canonical, digest_size=16).digest())


class _Reader:
    """Reads one filter, counting what it holds."""

    def __init__(self) -> None:
        self._conditions = 0
        self._values = 0

    def filter(self, raw: Any, at: str, depth: int) -> Node:
        if not isinstance(raw, Mapping):
            raise InvalidFilter(at, 'a filter is an object, such as {"price": {"lt": 20}}')
        if not raw:
            raise InvalidFilter(at, "is empty; name a field, `and`, `or` or `not`")
        if depth > MAX_DEPTH:
            raise InvalidFilter(at, f"lies deeper than {MAX_DEPTH} filters within each other")
        parts = tuple(
            self._member(name, value, f"{at}.{name}", depth) for name, value in raw.items()
        )
        return parts[0] if len(parts) == 1 else And(parts)

    def _member(self, name: str, value: Any, at: str, depth: int) -> Node:
        if name == "not":
            return Not(self.filter(value, at, depth + 1))
        if name in ("and", "or"):
            parts = self._parts(value, at, depth)
            return And(parts) if name == "and" else Or(parts)
        return Field(name, self._condition(name, value, at))

    def _parts(self, raw: Any, at: str, depth: int) -> tuple[Node, ...]:
        if not isinstance(raw, Sequence) or isinstance(raw, str) or not raw:
            raise InvalidFilter(at, "needs a list of one filter or more")
        return tuple(
            self.filter(part, f"{at}[{place}]", depth + 1) for place, part in enumerate(raw)
        )

    def _condition(self, name: str, raw: Any, at: str) -> Condition:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise InvalidFilter(at, f"is one condition more than {MAX_CONDITIONS}")
        try:
            condition = msgspec.convert(raw, Condition)
        except msgspec.ValidationError as exc:
            reason, _, where = str(exc).partition(" - at `$")
            raise InvalidFilter(at + where.rstrip("`"), reason) from exc
        _check_kind(name, condition, at)
        self._values += sum(
            len(values)
            for values in (condition.in_, condition.any, condition.all)
            if values is not UNSET
        )
        if self._values > MAX_VALUES:
            raise InvalidFilter(at, f"brings the filter's lists above {MAX_VALUES:,} values")
        return condition


def _check_kind(name: str, condition: Condition, at: str) -> None:
    """Refuse what cannot hold of a field of this kind."""
    if condition == Condition():
        raise InvalidFilter(at, "says nothing; use eq, in, gt, gte, lt, lte, exists, any or all")
    of_list = condition.any is not UNSET or condition.all is not UNSET
    of_one = condition.eq is not UNSET or condition.in_ is not UNSET
    of_number = any(
        bound is not UNSET for bound in (condition.gt, condition.gte, condition.lt, condition.lte)
    )
    if name == "categories" and (of_one or of_number):
        raise InvalidFilter(at, "is a list of categories: use any, all or exists")
    if name != "categories" and of_list:
        raise InvalidFilter(at, "has one value: use eq or in; any and all are for categories")
    if name in ("item_id", "title") and of_number:
        raise InvalidFilter(at, "is text, which has no range: use eq or in")
