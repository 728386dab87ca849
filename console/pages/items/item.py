"""One item: changed and deleted with a way back, its neighbours, how often it is met."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from console import formats
from console.errors import DO_IT_AGAIN
from console.limits import Limit, read_limits
from console.titles import Titles
from console.visit import Visit
from console.widgets.html import Tag, box, button, text
from console.widgets.parts import Chart, Field, FieldKind
from console.widgets.shared import Panel, attempt, confirmed, no_data
from headrace_client import HeadraceError, NotFound
from headrace_client.types import Item, ItemBody, ItemList, ItemPopularity

_NEIGHBOURS = 8


class ItemView:
    """The item that was chosen, or a new one."""

    def __init__(self, visit: Visit, changed: Callable[[], None]) -> None:
        """`changed`: is called when the catalogue is another than before."""
        self._visit = visit
        self._changed = changed
        self._titles = Titles(visit.api)
        self._item_id: str | None = None
        self._item: Item | None = None
        self._limits: Mapping[str, Limit] = {}
        self._step = "day"
        self._panel = Panel(visit, "Item")
        self._undo = box("undo")
        self._undo.move(self._panel.root, target_index=1)
        self._undo.set_visibility(False)
        self._similar = Panel(visit, "Like it", note="By the item vectors.")
        self._together = Panel(visit, "Bought together")
        self._popularity = Panel(visit, "Popularity", note="Events, by their own time.")
        with self._popularity.tools:
            Field(
                "By", kind="select", options={"day": "day", "hour": "hour"}, value="day",
                on_change=self._choose_step,
            )  # fmt: skip
        self._others = (self._similar, self._together, self._popularity)
        self._choose_none()

    def choose(self, item_id: str | None) -> None:
        """Show another item; None: a form for a new one."""
        self._item_id, self._item = item_id, None
        for panel in self._others:
            panel.root.set_visibility(item_id is not None)
        self._panel.load(self._read, self._draw, always=True)
        if item_id is None:
            return
        api = self._visit.api
        for panel in self._others:
            panel.reset()
        self._similar.load(
            lambda: self._list(api.similar(item_id, k=_NEIGHBOURS)), self._draw_list, always=True
        )
        self._together.load(
            lambda: self._list(api.bought_together(item_id, k=_NEIGHBOURS)),
            self._draw_list,
            always=True,
        )
        self._look_at_popularity()

    def _choose_none(self) -> None:
        """Show no item, as at first."""
        self._item_id, self._item = None, None
        for panel in self._others:
            panel.root.set_visibility(False)
        self._panel.load(_nothing, _draw_none, always=True)

    async def _read(self) -> Item | None:
        """Return the item; one that was met and is not described has an id alone."""
        item_id = self._item_id
        if not self._limits and self._visit.allows("admin"):
            self._limits = await read_limits(self._visit.server, "Item")
        if item_id is None:
            return None
        try:
            return await self._visit.api.item(item_id)
        except NotFound:
            return Item(item_id=item_id)

    async def _list(self, asking: Coroutine[Any, Any, ItemList]) -> ItemList:
        try:
            found = await asking
        except NotFound as error:
            return ItemList(items=[], message=error.problem.detail)
        await self._titles.find(row.id for row in found.items)
        return found

    def _choose_step(self, step: str) -> None:
        self._step = step
        self._look_at_popularity()

    def _look_at_popularity(self) -> None:
        item_id = self._item_id
        if item_id is not None:
            self._popularity.load(
                lambda: self._visit.api.popularity(item_id, step=self._step), self._draw_popularity
            )

    # Drawing

    def _draw(self, item: Item | None) -> None:
        self._item = item
        if item is None:
            _Form(None, self._limits, self._save, self._delete)
            return
        text(item.title or "without a title", "item-title" if item.title else "none", tag="p")
        text(item.item_id, "mono muted", tag="p")
        if self._visit.allows("admin"):
            _Form(item, self._limits, self._save, self._delete)
            return
        for name, value in _fields(item).items():
            text(f"{name}: {value}", tag="p")

    def _draw_list(self, found: ItemList) -> None:
        if not found.items:
            text(found.message or "None is known.", "none", tag="p")
            return
        with Tag("ol", "found"):
            for row in found.items:
                known = self._titles.known.get(row.id)
                with Tag("li"):
                    made = button("", partial(self.choose, row.id), kind="found-item")
                    with made:
                        text((known.title if known else None) or row.id, "found-title")
                        text(formats.score(row.score), "muted")

    def _draw_popularity(self, found: ItemPopularity) -> None:
        if not any(found.events):
            no_data("In the time that is kept it was not met, or too seldom to be counted.")
            return
        options = {
            "still": True,
            "at": found.at,
            "xAxis": {"type": "time"},
            "yAxis": {"type": "value", "min": 0, "minInterval": 1},
            "tooltip": {"trigger": "axis"},
            "series": [{"type": "bar", "name": "events", "data": found.events, "barMaxWidth": 24}],
        }
        total = formats.count(sum(found.events))
        Chart(f"Popularity: {total} events over {len(found.at)} {self._step}s", options)

    # Changing

    async def _save(self, item: Item) -> None:
        shown = self._item
        try:
            known = await self._known(item.item_id)
        except HeadraceError as error:
            self._visit.toast(self._visit.failure(error, DO_IT_AGAIN).words, "bad")
            return
        name = item.title or item.item_id
        if not await confirmed(
            self._visit,
            "Add this item?" if known is None else "Change this item?",
            _told_of(known, shown) or f"{name} counts from each server's next answer on.",
            "Add" if known is None else "Change",
            undo="Undo takes it back.",
        ):
            return
        work = self._visit.api.put_item(item.item_id, _body(item))
        said = "added" if known is None else "changed"
        if await attempt(self._visit, work, lambda _: f"{item.item_id} is {said}.") is None:
            return
        self._offer_undo(f"{name} was {said}.", item.item_id, known)
        self._show(item.item_id)

    async def _delete(self) -> None:
        item_id = self._item_id
        if item_id is None:
            return
        try:
            known = await self._known(item_id)
        except HeadraceError as error:
            self._visit.toast(self._visit.failure(error, DO_IT_AGAIN).words, "bad")
            return
        if known is None:
            self._visit.toast(
                f"{item_id} is not in the catalogue: there is nothing to delete.", "bad"
            )
            return
        name = known.title or item_id
        if not await confirmed(
            self._visit,
            "Delete this item?",
            f"{name} is in no answer of any server from then on.",
            "Delete",
            danger=True,
            undo="Undo puts it in again.",
        ):
            return
        work = self._visit.api.delete_item(item_id)
        if await attempt(self._visit, work, lambda _: f"{item_id} is deleted.") is not None:
            self._offer_undo(f"{name} was deleted.", item_id, known)
            self._choose_none()
            self._changed()

    def _offer_undo(self, words: str, item_id: str, before: Item | None) -> None:
        """Offer to bring an item back to what it was; None: to there being none."""

        async def undo() -> None:
            api = self._visit.api
            work = (
                api.delete_item(item_id) if before is None else api.put_item(item_id, _body(before))
            )
            if await attempt(self._visit, work, lambda _: "It is as it was.") is None:
                return
            # What is deleted takes no further click.
            self._undo.clear()
            self._undo.set_visibility(False)
            if before is not None:
                self._show(item_id)
                return
            self._changed()
            if self._item_id == item_id:
                self._choose_none()

        self._undo.clear()
        with self._undo:
            text(words)
            button("Undo", undo, kind="small")
        self._undo.set_visibility(True)

    def _show(self, item_id: str) -> None:
        self._changed()
        self.choose(item_id)

    async def _known(self, item_id: str) -> Item | None:
        """Return what the catalogue has under this id now. Raises `HeadraceError`."""
        try:
            return await self._visit.api.item(item_id)
        except NotFound:
            return None


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


class _Form:
    """The fields of an item, checked as they are typed."""

    def __init__(
        self,
        item: Item | None,
        limits: Mapping[str, Limit],
        save: Callable[[Item], Awaitable[None]],
        delete: Callable[[], Awaitable[None]],
    ) -> None:
        self._save = save
        self._limits = limits
        self._item_id = item.item_id if item is not None else ""
        self._parts: dict[str, _Part] = {}
        given = item or Item(item_id="")
        with box("form-grid"):
            if item is None:
                hint = f"Needed; {limits['item_id'].words}"
                self._add("item_id", "Id", "", "", limits["item_id"].read, hint=hint)
            self._add("title", "Title", given.title or "", given.title, self._read_words("title"))
            price = "" if given.price is None else repr(given.price).removesuffix(".0")
            self._add(
                "price", "Price", price, given.price, self._read_words("price"), kind="number"
            )
            self._add(
                "categories", "Categories", "\n".join(given.categories), given.categories,
                lambda typed: read_categories(typed, limits["categories"]),
                kind="textarea", hint="One a line",
            )  # fmt: skip
            attributes = json.dumps(given.attributes, indent=2, ensure_ascii=False)
            self._add(
                "attributes", "Attributes", attributes if given.attributes else "",
                given.attributes, lambda typed: read_attributes(typed, limits["attributes"]),
                kind="textarea", hint='A flat JSON object: {"year": 1995}',
            )  # fmt: skip
        with box("actions"):
            if item is not None:
                button("Delete …", delete, kind="danger")
            self._button = button("Add …" if item is None else "Change …", self._do, kind="main")
        self._check(None)

    def _add(
        self,
        name: str,
        label: str,
        shown: str,
        given: Any,
        read: Callable[[str], Any],
        *,
        kind: FieldKind = "text",
        hint: str = "",
    ) -> None:
        field = Field(label, kind=kind, value=shown, hint=hint, on_change=self._check)
        self._parts[name] = _Part(field, shown, given, read)

    def _read_words(self, name: str) -> Callable[[str], Any]:
        """Return what reads one line; nothing typed is no value."""
        return lambda typed: self._limits[name].read(typed) if typed.strip() else None

    def _check(self, _: Any) -> None:
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


async def _nothing() -> None:
    return None


def _draw_none(_: None) -> None:
    text("Choose an item of the list or of the map.", "none", tag="p")


def _told_of(known: Item | None, shown: Item | None) -> str:
    """Return what whoever writes an item does not know of the one in the catalogue, or ""."""
    if shown is None:
        if known is None:
            return ""
        there = f"There is an item {known.item_id} already, {known.title or 'without a title'}."
        return f"{there} It is replaced by what you have written."
    if (known or Item(item_id=shown.item_id)) == shown:
        return ""
    if known is None:
        return "Somebody has deleted it since it was shown here. It is added as it stands here."
    return "Somebody has changed it since it was shown here. It is replaced by what stands here."


def _body(item: Item) -> ItemBody:
    return ItemBody(
        title=item.title,
        categories=item.categories,
        price=item.price,
        attributes=item.attributes,
    )


def _fields(item: Item) -> dict[str, str]:
    fields = {"categories": ", ".join(item.categories)} if item.categories else {}
    fields |= {"price": formats.plain(item.price)} if item.price is not None else {}
    return {**fields, **{name: formats.plain(value) for name, value in item.attributes.items()}}
