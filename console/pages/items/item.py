"""One item: changed and deleted with a way back, its neighbours, how often it is met."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from console import formats
from console.titles import Titles
from console.visit import Visit
from console.widgets.html import Tag, box, button, text
from console.widgets.parts import Chart, Field
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
        self._step = "day"
        self._panel = Panel(visit, "Item")
        self._undo = box("undo")
        self._undo.move(self._panel.root, target_index=1)
        self._undo.set_visibility(False)
        self._panel.body.clear()
        with self._panel.body:
            text("Choose an item of the list or of the map.", "none", tag="p")
        self._similar = Panel(visit, "Like it", note="By the item vectors.")
        self._together = Panel(visit, "Bought together")
        self._popularity = Panel(visit, "Popularity", note="Events, by their own time.")
        with self._popularity.tools:
            Field(
                "By", kind="select", options={"day": "day", "hour": "hour"}, value="day",
                on_change=self._choose_step,
            )  # fmt: skip
        self._others = (self._similar, self._together, self._popularity)
        for panel in self._others:
            panel.root.set_visibility(False)

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

    async def _read(self) -> Item | None:
        """Return the item; one that was met and is not described has an id alone."""
        item_id = self._item_id
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
            return ItemList(items=[], message=str(error))
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
            _Form(self._visit, None, self._save, self._delete)
            return
        text(item.title or "without a title", "item-title" if item.title else "none", tag="p")
        text(item.item_id, "mono muted", tag="p")
        if self._visit.allows("admin"):
            _Form(self._visit, item, self._save, self._delete)
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
            no_data("Nobody has met it in the time that is kept.")
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
        try:
            known = await self._known(item.item_id)
        except HeadraceError as error:
            trouble = self._visit.trouble(error)
            self._visit.toast(f"{trouble.what} {trouble.cure}".strip(), "bad")
            return
        name = item.title or item.item_id
        consequence = f"{name} counts from each server's next answer on."
        if known is not None and self._item is None:
            there = f"There is an item {item.item_id} already, {known.title or 'without a title'}."
            consequence = f"{there} It is replaced by what you have written."
        if not await confirmed(
            self._visit,
            "Add this item?" if known is None else "Change this item?",
            consequence,
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
        item = self._item
        if item is None or not await confirmed(
            self._visit,
            "Delete this item?",
            f"{item.title or item.item_id} is in no answer of any server from then on.",
            "Delete",
            danger=True,
            undo="Undo puts it in again.",
        ):
            return
        work = self._visit.api.delete_item(item.item_id)
        if await attempt(self._visit, work, lambda _: f"{item.item_id} is deleted.") is not None:
            self._offer_undo(f"{item.title or item.item_id} was deleted.", item.item_id, item)
            self._panel.body.clear()
            for panel in self._others:
                panel.root.set_visibility(False)
            self._changed()

    def _offer_undo(self, words: str, item_id: str, before: Item | None) -> None:
        """Offer to bring an item back to what it was; None: to there being none."""

        async def undo() -> None:
            api = self._visit.api
            work = (
                api.delete_item(item_id) if before is None else api.put_item(item_id, _body(before))
            )
            if await attempt(self._visit, work, lambda _: "It is as it was.") is not None:
                # What is deleted takes no further click.
                self._undo.clear()
                self._undo.set_visibility(False)
                self._show(item_id)

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


class _Form:
    """The fields of an item, checked as they are typed."""

    def __init__(
        self,
        visit: Visit,
        item: Item | None,
        save: Callable[[Item], Awaitable[None]],
        delete: Callable[[], Awaitable[None]],
    ) -> None:
        self._visit = visit
        self._save = save
        self._item_id = item.item_id if item is not None else ""
        given = item or Item(item_id="")
        with box("form-grid"):
            if item is None:
                self._id = Field("Id", hint="At most 256 characters", on_change=self._check)
            self._title = Field("Title", value=given.title or "", on_change=self._check)
            price = "" if given.price is None else repr(given.price).removesuffix(".0")
            self._price = Field("Price", kind="number", value=price, on_change=self._check)
            self._categories = Field(
                "Categories", kind="textarea", value="\n".join(given.categories),
                hint="One a line", on_change=self._check,
            )  # fmt: skip
            attributes = json.dumps(given.attributes, indent=2, ensure_ascii=False)
            self._attributes = Field(
                "Attributes", kind="textarea", value=attributes if given.attributes else "",
                hint='A flat JSON object: {"year": 1995}', on_change=self._check,
            )  # fmt: skip
        with box("actions"):
            if item is not None:
                button("Delete …", delete, kind="danger")
            self._button = button("Add …" if item is None else "Change …", self._do, kind="main")
        self._is_new = item is None
        self._check(None)

    def _check(self, _: Any) -> None:
        wrong = self._say(self._price, _price) | self._say(self._attributes, _attributes)
        wrong |= self._say(self._categories, _categories)
        if self._is_new:
            missing = not self._id.value.strip() or len(self._id.value.strip()) > 256
            wrong |= missing
        self._button.attribute("disabled", True if wrong else None)

    def _say(self, field: Field, read: Callable[[str], Any]) -> bool:
        """Say what is wrong with a field; return whether something is."""
        try:
            read(str(field.value))
        except ValueError as exc:
            field.set_error(str(exc))
            return True
        field.set_error("")
        return False

    async def _do(self) -> None:
        item_id = self._id.value.strip() if self._is_new else self._item_id
        await self._save(
            Item(
                item_id=item_id,
                title=self._title.value.strip() or None,
                categories=_categories(self._categories.value),
                price=_price(self._price.value),
                attributes=_attributes(self._attributes.value),
            )
        )


def _price(typed: str) -> float | None:
    words = typed.strip()
    if not words:
        return None
    try:
        value = float(words)
    except ValueError:
        raise ValueError(f"{words[:40]!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise ValueError("It must be 0 or more")
    return value


def _categories(typed: str) -> list[str]:
    found = [each.strip() for each in typed.splitlines() if each.strip()]
    if len(found) > 64:
        raise ValueError(f"There are {len(found)}; at most 64")
    if too_long := [each for each in found if len(each) > 128]:
        raise ValueError(f"{too_long[0][:20]}… is longer than 128 characters")
    return found


def _attributes(typed: str) -> dict[str, Any]:
    if not typed.strip():
        return {}
    try:
        found = json.loads(typed)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"It is not JSON: {exc}") from None
    if not isinstance(found, dict):
        raise ValueError("It must be an object in braces")
    if any(isinstance(value, (dict, list)) for value in found.values()):
        raise ValueError("Its values must be text, numbers, true, false or null")
    return found


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
