"""The items' fields as columns, so that a filter is a handful of array operations on all items."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from headrace.catalog import Item
from models.retrieval.filters import And, Condition, Field, Node, Not, Value

Mask = NDArray[np.bool_]
"""`[items]`, by position."""
_NUMBER = -1
"""In place of a code: the value is a number."""
_PENDING = 1_024
"""Changes of a field that may wait: a filter takes them in within a millisecond or two."""
_PENDING_ONE_IN = 32
"""Or this share of its values, if that is more: so a large catalogue is not copied too often."""
_SPARE_CODES = 1_000
"""Codes of values that no item has any more, beyond as many as there are values."""


class ItemAttributes:
    """What the catalogue says of each item, by position and field.

    Taking a change in costs next to nothing; the next filter on a field that changed pays for it,
    or `settle` does.
    """

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._names: list[tuple[str, ...]] = []
        """By position, the fields that the item has."""
        self._same_names: dict[tuple[str, ...], tuple[str, ...]] = {}

    def put(self, positions: Sequence[int], items: Sequence[Item]) -> None:
        """Take items as they are now; what was known of them before is forgotten."""
        missing = max(positions, default=-1) + 1 - len(self._names)
        self._names.extend([()] * missing)
        for position, item in zip(positions, items, strict=True):
            fields = dict(_fields(item))
            for name in self._names[position]:
                if name not in fields:
                    self._columns[name].put(position, ())
            for name, values in fields.items():
                if name not in self._columns:
                    self._columns[name] = _Column()
                self._columns[name].put(position, values)
            names = tuple(fields)
            self._names[position] = self._same_names.setdefault(names, names)

    def settle(self) -> None:
        """Do now what the next filters would have to."""
        for column in self._columns.values():
            column.settle()

    def matches(
        self, node: Node, size: int, positions: Callable[[Collection[str]], NDArray[np.int64]]
    ) -> Mask:
        """Return of each of the positions 0 to `size - 1` whether the filter holds of its item.

        `positions` tells where the known ones of some item ids stand.
        """
        if isinstance(node, Field):
            if node.name == "item_id":
                return _of_ids(node.condition, size, positions)
            column = self._columns.get(node.name) or _Column()
            return column.matches(node.condition, size)
        if isinstance(node, Not):
            return ~self.matches(node.part, size, positions)
        masks = [self.matches(part, size, positions) for part in node.parts]
        combine = np.logical_and if isinstance(node, And) else np.logical_or
        return np.asarray(combine.reduce(masks))


def _fields(item: Item) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """Yield the item's fields; its own come last, and so before an attribute of the same name."""
    for name, value in item.attributes.items():
        if value is not None and name != "item_id":
            yield name, (value,)
    if item.title is not None:
        yield "title", (item.title,)
    if item.price is not None:
        yield "price", (item.price,)
    if item.categories:
        yield "categories", tuple(dict.fromkeys(item.categories))


def _of_ids(
    condition: Condition, size: int, positions: Callable[[Collection[str]], NDArray[np.int64]]
) -> Mask:
    mask = np.ones(size, np.bool_)
    for values in (_one(condition.eq), condition.in_):
        if values is not UNSET:
            ids = [value for value in values if isinstance(value, str)]
            mask &= _mask(size, positions(ids))
    return mask & (condition.exists is not False)


class _Column:
    """One field of all items: an entry for each value that an item has."""

    def __init__(self) -> None:
        self._positions = np.zeros(0, np.int32)
        self._codes = np.zeros(0, np.int32)
        """Of text, true and false; `_NUMBER` for a number."""
        self._numbers = np.zeros(0, np.float64)
        """NaN for what is no number."""
        self._code_of: dict[str | bool, int] = {}
        self._changed: dict[int, tuple[Value, ...]] = {}
        """By position, values that the arrays do not hold yet."""

    def put(self, position: int, values: tuple[Value, ...]) -> None:
        self._changed[position] = values
        if len(self._changed) > max(_PENDING, len(self._positions) // _PENDING_ONE_IN):
            self.settle()

    def matches(self, condition: Condition, size: int) -> Mask:
        self.settle()
        mask = np.ones(size, np.bool_)
        for values in (_one(condition.eq), condition.in_, condition.any):
            if values is not UNSET:
                mask &= self._having(self._are_among(values), size)
        if condition.all is not UNSET:
            mask &= self._having_all(condition.all, size)
        if condition.exists is not UNSET:
            there = self._having(np.ones(len(self._positions), np.bool_), size)
            mask &= there if condition.exists else ~there
        for bound, compare in (
            (condition.gt, np.greater),
            (condition.gte, np.greater_equal),
            (condition.lt, np.less),
            (condition.lte, np.less_equal),
        ):
            if bound is not UNSET:
                # Nothing compares with NaN.
                mask &= self._having(compare(self._numbers, bound), size)
        return mask

    def _having(self, entries: Mask, size: int) -> Mask:
        """Return which items have one of these entries."""
        return _mask(size, self._positions[entries])

    def _having_all(self, values: Sequence[Value], size: int) -> Mask:
        """Return which items have an entry of each of these values."""
        # True is no 1, but equal to it.
        different = {(isinstance(value, bool), value) for value in values}
        # No item has a value twice.
        counts = np.bincount(self._positions[self._are_among(values)], minlength=size)
        return np.asarray(counts == len(different))

    def _are_among(self, values: Sequence[Value]) -> Mask:
        """Return of each entry whether it is one of these values."""
        numbers = [float(value) for value in values if not isinstance(value, (str, bool))]
        codes = [
            self._code_of[value]
            for value in values
            if isinstance(value, (str, bool)) and value in self._code_of
        ]
        wanted = np.zeros(len(self._code_of) + 1, np.bool_)
        wanted[codes] = True
        # The code of numbers leads to the last place, which stays false.
        among = wanted[self._codes]
        return among | np.isin(self._numbers, numbers) if numbers else among

    def settle(self) -> None:
        """Put what has changed into the arrays."""
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        kept = ~np.isin(self._positions, np.fromiter(changed, np.int32, len(changed)))
        rows = [(position, value) for position, values in changed.items() for value in values]
        codes = [self._code(value) for _, value in rows]
        numbers = [np.nan if isinstance(value, (str, bool)) else value for _, value in rows]
        self._positions = _joined(self._positions[kept], [position for position, _ in rows])
        self._codes = _joined(self._codes[kept], codes)
        self._numbers = _joined(self._numbers[kept], numbers)
        if len(self._code_of) > 2 * len(self._codes) + _SPARE_CODES:
            self._forget_unused()

    def _code(self, value: Value) -> int:
        if isinstance(value, (str, bool)):
            return self._code_of.setdefault(value, len(self._code_of))
        return _NUMBER

    def _forget_unused(self) -> None:
        values = list(self._code_of)
        used = np.unique(self._codes[self._codes != _NUMBER])
        new = np.full(len(values) + 1, _NUMBER, np.int32)
        new[used] = np.arange(len(used))
        self._codes = new[self._codes]
        self._code_of = {values[old]: code for code, old in enumerate(used.tolist())}


def _one(value: Any) -> Any:
    return UNSET if value is UNSET else (value,)


def _mask(size: int, positions: NDArray[Any]) -> Mask:
    mask = np.zeros(size, np.bool_)
    mask[positions] = True
    return mask


def _joined(array: NDArray[Any], more: Sequence[Any]) -> NDArray[Any]:
    return np.concatenate([array, np.array(more, array.dtype)])
