"""Which column of a foreign file is which field, and how its cells become what the field holds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import msgspec

from headrace.catalog import Item
from headrace.errors import HeadraceError, InvalidEvent
from headrace.events import Click, Purchase, Rating

EVERYTHING = "*"
"""In place of a column's name: every one that is no field."""
TYPE = "type"
"""The field that gives a row's kind."""
ITEM = "item"

_OF_KIND: Mapping[str, type[msgspec.Struct]] = {
    "click": Click,
    "rating": Rating,
    "purchase": Purchase,
    ITEM: Item,
}
FIELDS: Mapping[str, tuple[str, ...]] = {
    kind: (*(each.name for each in msgspec.structs.fields(struct)), TYPE)
    for kind, struct in _OF_KIND.items()
}
"""By kind of row, the fields that it may have."""
OBJECTS = ("context", "attributes")
"""Fields that hold what has no field of its own, each under a name: `context.device`."""
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}
_EXACT = 2**53
# As JSON has it: `01234` and `+1` stay text, so that a postcode is not counted with.
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Hints:
    """How a user says what a file's layout leaves open, in the words of where it was given."""

    keep: str
    """Of a column that is no field, with `{name}` under which it is kept, and `{column}`."""
    leave_out: str
    kind: str
    """Of all rows."""
    dates: str


COMMAND_LINE = Hints(
    keep="--map {name}={column}",
    leave_out="--leave-out {column}",
    kind="--kind",
    dates="--time-unit iso",
)


@dataclass(frozen=True)
class Layout:
    """How the rows of a file are to be read, as a user says it."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """By field (`user_id`, `context.device`), the column that holds it."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """By field, what it is in rows that do not say."""
    left_out: frozenset[str] = frozenset()
    """Columns that are not imported; `EVERYTHING`: all that are no field and are not named."""
    time_unit: str = "s"
    """Of the timestamp: `s`, `ms`, `us`, or `iso` for dates in words."""
    separator: str = "|"
    """Between the categories that stand in one cell."""
    hints: Hints = COMMAND_LINE


class _Place(NamedTuple):
    field: str
    inner: str
    """The name under the field, of those in `OBJECTS`; or ""."""
    convert: Callable[[Any], Any]


class Shaper:
    """Makes of a row, which is cells by column, the fields of an event or an item."""

    def __init__(self, layout: Layout, kind: str | None, *, cells_are_text: bool) -> None:
        """`kind` None: each row's own `type` says it.

        Raises `HeadraceError` when the layout names a field that there is not.
        """
        self._layout = layout
        self._fields = FIELDS[kind] if kind else tuple(dict.fromkeys(sum(FIELDS.values(), ())))
        self._cells_are_text = cells_are_text
        self._mapped: dict[str, tuple[_Place, ...]] = {}
        for name, column in layout.columns.items():
            self._mapped[column] = (
                *self._mapped.get(column, ()),
                self._place(name, cells_are_text),
            )
        self._constants = [
            (place, place.convert(text))
            for place, text in (
                (self._place(name, True), text) for name, text in layout.constants.items()
            )
        ]
        self._places: dict[str, tuple[_Place, ...]] = {}

    @property
    def hints(self) -> Hints:
        """In whose words errors say what to do."""
        return self._layout.hints

    def check_columns(self, columns: Iterable[str]) -> list[str]:
        """Return the columns that are read. Raises `HeadraceError` unless each one has a place."""
        columns = list(columns)
        missing = [name for name in self._layout.columns.values() if name not in columns]
        if missing:
            raise HeadraceError(f"There is no column {missing[0]!r}; there are {_listed(columns)}.")
        try:
            return [column for column in columns if self._places_of(column)]
        except InvalidEvent as exc:
            raise HeadraceError(f"Column {exc}.") from exc

    def says_type(self, columns: Iterable[str]) -> bool:
        """Return whether rows of these columns say what kind they are."""
        return TYPE in (*columns, *self._layout.columns, *self._layout.constants)

    def fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields; an empty cell, a null and a NaN are none.

        Raises `InvalidEvent` for a cell that has no place or cannot be read.
        """
        fields: dict[str, Any] = {}
        for column, value in row.items():
            if value is None or value == "" or value != value:
                continue
            for place in self._places.get(column) or self._places_of(column):
                _put(fields, place, place.convert(value))
        for place, value in self._constants:
            if _lacks(fields, place):
                _put(fields, place, value)
        return fields

    def _places_of(self, column: str) -> tuple[_Place, ...]:
        """Return where a column goes, nowhere when it is left out."""
        if column not in self._places:
            self._places[column] = self._find_places(column)
        return self._places[column]

    def _find_places(self, column: str) -> tuple[_Place, ...]:
        if column in self._mapped:
            return self._mapped[column]
        if column in self._layout.left_out:
            return ()
        if self._is_field(column) and column not in self._layout.columns:
            return (self._place(column, self._cells_are_text),)
        if EVERYTHING in self._layout.left_out:
            return ()
        own = "attributes" if self._fields == FIELDS[ITEM] else "context"
        keep = self.hints.keep.format(name=f"{own}.{column}", column=column)
        leave_out = self.hints.leave_out.format(column=column)
        raise InvalidEvent(
            column,
            f"is not a field; keep it with `{keep}`, say which field it is, or leave it out with "
            f"`{leave_out}`",
        )

    def _place(self, name: str, text: bool) -> _Place:
        if not self._is_field(name):
            raise HeadraceError(f"{name!r} is not a field; there are {_listed(self._fields)}.")
        base, _, inner = name.partition(".")
        return _Place(base, inner, self._conversion(base, inner, text))

    def _is_field(self, name: str) -> bool:
        base, dot, inner = name.partition(".")
        return base in self._fields and (not dot or (base in OBJECTS and bool(inner)))

    def _conversion(self, name: str, inner: str, text: bool) -> Callable[[Any], Any]:
        if inner:
            return _cell if text else _scalar
        if name == "timestamp":
            return partial(_seconds, unit=self._layout.time_unit, dates=self.hints.dates)
        if name == "categories":
            return partial(_texts, separator=self._layout.separator)
        return _CONVERSIONS.get(name, _text)


def _lacks(fields: Mapping[str, Any], place: _Place) -> bool:
    """Return whether a row says nothing there; 0, false and an empty text in an object do."""
    if not place.inner:
        return place.field not in fields
    inside = fields.get(place.field, {})
    return isinstance(inside, dict) and inside.get(place.inner) is None


def _put(fields: dict[str, Any], place: _Place, value: Any) -> None:
    if not place.inner:
        fields[place.field] = value
        return
    inside = fields.setdefault(place.field, {})
    # What is no object is refused later, by its name.
    if isinstance(inside, dict):
        inside[place.inner] = value


def _text(value: Any) -> Any:
    """Return an id as text: in many files it is a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _scalar(value)


def _number(value: Any) -> Any:
    """Return a number as a float, whether it was text, whole or a decimal; else the value."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        return value
    if isinstance(value, str) and "_" in value:
        return value
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return value
    return number if math.isfinite(number) else value


def _whole(value: Any) -> Any:
    number = _number(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _seconds(value: Any, *, unit: str, dates: str) -> Any:
    """Return Unix seconds. A date without a time zone is in UTC."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, str) and unit == "iso":
        try:
            # Python 3.10 does not read the letter.
            value = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", value))
        except ValueError as exc:
            raise InvalidEvent("timestamp", f"{value!r} is not a date: {exc}") from exc
    if isinstance(value, datetime):
        zone = value.tzinfo or timezone.utc
        return value.replace(tzinfo=zone).timestamp()
    number = _number(value)
    if isinstance(number, str):
        hint = "" if unit == "iso" else f"; `{dates}` reads dates"
        raise InvalidEvent("timestamp", f"{value!r} is not a number{hint}")
    return number / _PER_SECOND.get(unit, 1.0) if isinstance(number, float) else number


def _texts(value: Any, *, separator: str) -> Any:
    if isinstance(value, str):
        parts = value.split(separator) if separator else [value]
        return [part.strip() for part in parts if part.strip()]
    if isinstance(value, (list, tuple)):
        return [_text(each) for each in value if each is not None]
    return value


def _object(value: Any) -> Any:
    """Return an object that may stand in a cell as JSON."""
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return value
    if isinstance(value, dict):
        return {name: _scalar(each) for name, each in value.items()}
    return value


def _cell(text: Any) -> Any:
    """Return a cell of text as the number that it is, if JSON would hold it exactly; or as text."""
    if not isinstance(text, str) or not _JSON_NUMBER.fullmatch(text):
        return _scalar(text)
    try:
        number = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return number if abs(number) <= _EXACT else text


def _scalar(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    return value


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "rating": _number,
    "price": _number,
    "quantity": _whole,
    "context": _object,
    "attributes": _object,
}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
