"""The form of an item: what is in it, checked as it is typed."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from console.limits import Limit
from console.widgets.html import box, button
from console.widgets.parts import Field, FieldKind
from headrace_client.types import Item


@dataclass(frozen=True)
class _Part:
    """A field of the form."""

    field: Field
    shown: str
    """What is in it before anyone types."""
    given: Any
    """The value that this stands for; it is sent again as it was unless the field is touched."""
    read: Callable[[str], Any]

    def value(self) -> Any:
        """Return what is to be sent. Raises `ValueError` with what is wrong."""
        typed = str(self.field.value)
        return self.given if typed == self.shown else self.read(typed)


class ItemForm:
    """The fields of an item, checked as they are typed."""

    def __init__(
        self,
        item: Item | None,
        limits: Mapping[str, Limit],
        save: Callable[[Item], Awaitable[None]],
        delete: Callable[[str], Awaitable[None]] | None,
        typed: Callable[[], None],
    ) -> None:
        """`item`: None for a new one; `typed` is told of each change.

        `delete`: is given its id; None of what is not in the catalogue.
        """
        self._save = save
        self._typed = typed
        self._limits = limits
        self._item_id = item.item_id if item is not None else ""
        self._parts: dict[str, _Part] = {}
        self._given = given_of(item or Item(item_id=""))
        with box("form-grid"):
            if item is None:
                hint = f"Needed; {limits['item_id'].words}"
                self._given["item_id"] = ("", "")
                self._add("item_id", "Id", limits["item_id"].read, hint=hint)
            self._add("title", "Title", self._read_words("title"))
            self._add("price", "Price", self._read_words("price"), kind="number")
            self._add(
                "categories", "Categories",
                lambda typed: read_categories(typed, limits["categories"]),
                kind="textarea", hint="One a line",
            )  # fmt: skip
            self._add(
                "attributes", "Attributes",
                lambda typed: read_attributes(typed, limits["attributes"]),
                kind="textarea", hint='A flat JSON object: {"year": 1995}',
            )  # fmt: skip
        with box("actions"):
            if item is not None and delete is not None:
                button("Delete …", partial(delete, item.item_id), kind="danger")
            self._button = button("Add …" if delete is None else "Change …", self._do, kind="main")
        self._check()

    @property
    def is_touched(self) -> bool:
        """Whether something stands in it that would be lost."""
        return any(str(part.field.value) != part.shown for part in self._parts.values())

    @property
    def texts(self) -> Mapping[str, str]:
        """What stands in it, by field."""
        return {name: str(part.field.value) for name, part in self._parts.items()}

    def count_from(self, item: Item) -> None:
        """Keep what stands in it: from now on it is a change of this, which the item is by now."""
        for name, (shown, given) in given_of(item).items():
            self._parts[name] = replace(self._parts[name], shown=shown, given=given)
        self._changed(None)

    def _add(
        self,
        name: str,
        label: str,
        read: Callable[[str], Any],
        *,
        kind: FieldKind = "text",
        hint: str = "",
    ) -> None:
        shown, given = self._given[name]
        field = Field(label, kind=kind, value=shown, hint=hint, on_change=self._changed)
        self._parts[name] = _Part(field, shown, given, read)

    def _read_words(self, name: str) -> Callable[[str], Any]:
        """Return what reads one line; nothing typed is no value."""
        return lambda typed: self._limits[name].read(typed) if typed.strip() else None

    def _changed(self, _: Any) -> None:
        self._check()
        self._typed()

    def _check(self) -> None:
        """Say at once what is wrong with what is typed."""
        wrong = False
        for part in self._parts.values():
            try:
                part.value()
            except ValueError as error:
                part.field.set_error(str(error))
                wrong = True
            else:
                part.field.set_error("")
        self._button.attribute("disabled", True if wrong or not self._id() else None)

    def _id(self) -> str:
        part = self._parts.get("item_id")
        return self._item_id if part is None else str(part.field.value).strip()

    async def _do(self) -> None:
        values = {name: part.value() for name, part in self._parts.items()}
        await self._save(Item(**{**values, "item_id": self._id()}))


def given_of(item: Item) -> dict[str, tuple[str, Any]]:
    """Return by field what stands in it of an item, and the value that this stands for."""
    price = "" if item.price is None else repr(item.price).removesuffix(".0")
    attributes = json.dumps(item.attributes, indent=2, ensure_ascii=False)
    return {
        "title": (item.title or "", item.title),
        "price": (price, item.price),
        "categories": ("\n".join(item.categories), item.categories),
        "attributes": (attributes if item.attributes else "", item.attributes),
    }


def read_categories(typed: str, limit: Limit) -> list[str]:
    """Return the categories of lines. Raises `ValueError`."""
    found = [each.strip() for each in typed.splitlines() if each.strip()]
    limit.count(len(found))
    for each in limit.each:
        for category in found:
            try:
                each.read(category)
            except ValueError as error:
                raise ValueError(f"{category[:20]}…: {error}") from None
    return found


def read_attributes(typed: str, limit: Limit) -> dict[str, Any]:
    """Return the attributes of a JSON object. Raises `ValueError` for what the API would not."""
    if not typed.strip():
        return {}
    try:
        found = json.loads(typed, parse_constant=_refuse_constant)
        # Half of a surrogate pair is JSON that nobody can send.
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("It has half of a character, \\ud800 to \\udfff") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"It is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("It must be an object in braces")
    limit.count(len(found))
    whole = next((each for each in limit.each if each.kind == "integer"), Limit("integer"))
    for name, value in found.items():
        if isinstance(value, (dict, list)):
            raise ValueError(f"{name}: values must be text, numbers, true, false or null")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}: the number is too large")
        if isinstance(value, int) and not isinstance(value, bool):
            try:
                whole.read(str(value))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON; write null or leave it out")
