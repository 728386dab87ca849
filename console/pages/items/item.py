"""One item: changed and deleted with a way back, its neighbours, how often it is met."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from console import formats
from console.errors import DO_IT_AGAIN
from console.limits import Limit, read_limits
from console.pages.items.item_form import ItemForm
from console.pages.items.popularity import draw_popularity
from console.titles import Titles
from console.visit import Visit
from console.widgets.address import Address
from console.widgets.html import Tag, box, button, text
from console.widgets.parts import Field
from console.widgets.shared import Panel, attempt, confirmed
from headrace_client import HeadraceError, NotFound
from headrace_client.types import Item, ItemBody, ItemList

_NEIGHBOURS = 8
_LIKENESS = (
    "By the cosine of the item vectors, at most 1; where item-to-item towers are live, by the "
    "chance that it is met next."
)
_ID = "id"
"""The name under which the page's address has the item."""


class ItemView:
    """The item that was chosen, or a new one."""

    def __init__(self, visit: Visit, address: Address, changed: Callable[[], None]) -> None:
        """`changed`: is called when the catalogue is another than before."""
        self._visit = visit
        self._address = address
        self._changed = changed
        self._form: ItemForm | None = None
        self._titles = Titles(visit.api)
        self._item_id: str | None = None
        self._item: Item | None = None
        self._is_there = False
        """Whether the catalogue has it: what was met and never described has an id alone."""
        self._title: Tag
        self._limits: Mapping[str, Limit] = {}
        self._step = "day"
        self._panel = Panel(visit, "Item")
        self._undo = box("undo")
        self._undo.move(self._panel.root, target_index=1)
        self._undo.set_visibility(False)
        self._similar = Panel(visit, "Like it", note=_LIKENESS)
        self._together = Panel(
            visit, "Bought together", note="With the share of its baskets that hold the other one."
        )
        self._popularity = Panel(
            visit,
            "Popularity",
            note="Events, by their own time; of older ones than 32 days, or 48 hours, no count is "
            "kept.",
        )
        with self._popularity.tools:
            Field(
                "By", kind="select", options={"day": "day", "hour": "hour"}, value="day",
                on_change=self._choose_step,
            )  # fmt: skip
        self._others = (self._similar, self._together, self._popularity)
        self.go()

    def go(self) -> None:
        """Show the item that the address names; none if it names none."""
        item_id = self._address.query.get(_ID)
        if item_id is None:
            self._choose_none()
        elif item_id != self._item_id:
            self._choose(item_id)

    def query(self) -> dict[str, str]:
        """Return what the address says of what is shown."""
        return {_ID: self._item_id or ""}

    async def choose(self, item_id: str | None) -> None:
        """Show another item; None: a form for a new one."""
        if await self.may_leave():
            self._choose(item_id)

    async def may_leave(self) -> bool:
        """Return whether what was typed may be lost, if anything was."""
        if self._form is None or not self._form.is_touched:
            return True
        return await confirmed(
            self._visit,
            "Leave what you have typed?",
            f"It is not in the catalogue yet: {self._item_id or 'the new item'} stays as it is.",
            "Leave",
            danger=True,
        )

    def _choose(self, item_id: str | None) -> None:
        self._forget_form()
        if item_id != self._item_id:
            # Until it is there, nothing acts on the one before.
            self._panel.reset()
        self._item_id, self._item = item_id, None
        self._address.note(self.query(), step=True)
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
            partial(self._draw_list, told=formats.share),
            always=True,
        )
        self._look_at_popularity()

    def _choose_none(self) -> None:
        """Show no item, as at first."""
        self._forget_form()
        self._item_id, self._item = None, None
        self._address.note(self.query(), step=True)
        for panel in self._others:
            panel.root.set_visibility(False)
        self._panel.load(_nothing, _draw_none, always=True)

    async def _read(self) -> Item | None:
        """Return the item, with nothing but an id where the catalogue has none."""
        item_id = self._item_id
        if not self._limits and self._visit.allows("admin"):
            self._limits = await read_limits(self._visit.server, "Item")
        if item_id is None:
            return None
        try:
            item = await self._visit.api.item(item_id)
        except NotFound:
            self._is_there = False
            return Item(item_id=item_id)
        self._is_there = True
        return item

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
                lambda: self._visit.api.popularity(item_id, step=self._step), draw_popularity
            )

    # Drawing

    def _draw(self, item: Item | None) -> None:
        self._item = item
        if item is None:
            self._draw_form()
            return
        self._title = Tag("p")
        self._draw_title(item)
        text(item.item_id, "mono muted", tag="p")
        if self._visit.allows("admin"):
            self._draw_form()
            return
        for name, value in _fields(item).items():
            text(f"{name}: {value}", tag="p")

    def _draw_title(self, item: Item) -> None:
        untitled = "without a title" if self._is_there else "Not in the catalogue"
        self._title.set_text(item.title or untitled)
        self._title.classes(replace="item-title" if item.title else "none")

    def _draw_form(self) -> None:
        delete = self._delete if self._item is not None and self._is_there else None
        self._form = ItemForm(self._item, self._limits, self._save, delete, self._guard)

    def _guard(self) -> None:
        """Have the browser ask, too, before a page with something typed is left."""
        self._address.guard(self._form is not None and self._form.is_touched)

    def _forget_form(self) -> None:
        self._form = None
        self._guard()

    def _draw_list(self, found: ItemList, told: Callable[[float], str] = formats.score) -> None:
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
                        text(told(row.score), "muted")

    # Changing

    async def _save(self, item: Item) -> None:
        shown, stood = self._item, self._stands
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
        self._offer_undo(f"{name} was {said}.", item.item_id, known, item)
        self._show(item.item_id, item, stood)

    async def _delete(self, item_id: str) -> None:
        stood = self._stands
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
            self._offer_undo(f"{name} was deleted.", item_id, known, None)
            self._show(item_id, None, stood)

    def _offer_undo(
        self, words: str, item_id: str, before: Item | None, after: Item | None
    ) -> None:
        """Offer to bring an item back to what it was `before`, from what it is `after` the change.

        None: there is no such item.
        """

        async def undo() -> None:
            api = self._visit.api
            if not await self.may_leave():
                return
            stood = self._stands
            try:
                known = await self._known(item_id)
            except HeadraceError as error:
                self._visit.toast(self._visit.failure(error, DO_IT_AGAIN).words, "bad")
                return
            if known != after and not await confirmed(
                self._visit, "Undo it all the same?", _told_of_undo(known, before), "Undo",
                danger=True,
            ):  # fmt: skip
                return
            work = (
                api.delete_item(item_id) if before is None else api.put_item(item_id, _body(before))
            )
            if await attempt(self._visit, work, lambda _: "It is as it was.") is None:
                return
            # What is deleted takes no further click.
            self._undo.clear()
            self._undo.set_visibility(False)
            self._show(item_id, before, stood)

        self._undo.clear()
        with self._undo:
            text(words)
            button("Undo", undo, kind="small")
        self._undo.set_visibility(True)

    @property
    def _stands(self) -> object:
        """What is shown, and what stands in its form: it is the same as long as nobody acts."""
        return self._item_id, self._form, self._form.texts if self._form is not None else None

    def _show(self, item_id: str, item: Item | None, stood: object) -> None:
        """Show what an item is after a change of it; None: there is none any more.

        `stood`: what stood here when the change was sent. What was chosen or typed since stays.
        """
        self._titles.forget(item_id)
        self._changed()
        if self._stands == stood:
            if item is not None:
                self._choose(item_id)
            elif self._item_id == item_id:
                self._choose_none()
        elif self._item_id == item_id and self._form is not None:
            self._item, self._is_there = item or Item(item_id=item_id), item is not None
            self._draw_title(self._item)
            self._form.count_from(self._item)

    async def _known(self, item_id: str) -> Item | None:
        """Return what the catalogue has under this id now. Raises `HeadraceError`."""
        try:
            return await self._visit.api.item(item_id)
        except NotFound:
            return None


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


def _told_of_undo(known: Item | None, before: Item | None) -> str:
    """Return what somebody else has done since, and what comes of it when a change is undone."""
    if known is None:
        return "Somebody has deleted it since. It is added again, as it was before your change."
    if before is None:
        return "Somebody has changed it since you added it. It is deleted with what they wrote."
    return "Somebody has written it since. It is replaced by what was there before your change."


def _body(item: Item) -> ItemBody:
    return ItemBody(
        title=item.title,
        categories=item.categories,
        price=item.price,
        attributes=item.attributes,
    )


def _fields(item: Item) -> dict[str, str]:
    fields = {"categories": ", ".join(item.categories)} if item.categories else {}
    fields |= {"price": formats.exact(item.price)} if item.price is not None else {}
    return {**fields, **{name: formats.exact(value) for name, value in item.attributes.items()}}
