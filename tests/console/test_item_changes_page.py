"""Items in a real browser: added, changed and deleted with a way back; nothing typed is lost."""

from __future__ import annotations

import os
import re
import signal

import pytest
from browser import PATIENCE_MS, Visitor, violations, visiting
from parts import eventually
from playwright.async_api import Browser, Dialog, expect
from system import KEY, System, key_with, ring, title

from headrace_client import AsyncClient, Item, NotFound

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(280)]
expect.set_options(timeout=PATIENCE_MS)


async def test_who_has_typed_something_is_asked_before_it_is_left(visitor: Visitor) -> None:
    page, dialog = visitor.page, visitor.page.get_by_role("dialog")
    await visitor.go(f"/items?query=of+the+ring&id={ring(4)}")
    await page.locator(f".found-item[data-item='{ring(5)}']").click()
    field = page.get_by_label("Title")
    await expect(field).to_have_value(title(5))
    await field.fill("Another")
    other = page.locator(f".found-item[data-item='{ring(6)}']")
    for leave in (other.click, page.go_back):
        await leave()
        await expect(dialog).to_contain_text("Leave what you have typed?")
        await dialog.get_by_role("button", name="Cancel").click()
        await expect(dialog).to_have_count(0)
        await expect(field).to_have_value("Another")
        await expect(page).to_have_url(re.compile(f"id={ring(5)}$"))
    # The browser asks before the whole page is left.
    asked: list[str] = []

    async def stay(question: Dialog) -> None:
        asked.append(question.type)
        await question.dismiss()

    page.once("dialog", stay)
    await page.get_by_role("link", name="Models").click()
    assert asked == ["beforeunload"]
    await expect(field).to_have_value("Another")
    await other.click()
    await dialog.get_by_role("button", name="Leave").click()
    await expect(field).to_have_value(title(6))
    await page.get_by_role("link", name="Models").click()
    await expect(page).to_have_url(re.compile("/models$"))


async def test_what_is_typed_or_chosen_while_a_change_is_on_its_way_stays(
    system: System, visitor: Visitor
) -> None:
    page, dialog = visitor.page, visitor.page.get_by_role("dialog")
    field, price = page.get_by_label("Title"), page.get_by_label("Price")

    async def change(wanted: str) -> None:
        """Ask for a change, and stop the server before it hears of it."""
        await field.fill(wanted)
        await page.get_by_role("button", name="Change …").click()
        await expect(dialog).to_contain_text(f"{wanted} counts")
        os.kill(system.server.pid, signal.SIGSTOP)
        await dialog.get_by_role("button", name="Change").click()
        await expect(dialog).to_have_count(0)

    async with AsyncClient(system.settings.url, KEY) as api:

        async def are_there() -> bool:
            return (await api.items("of the set")).count == 2

        pair = [Item(item_id=each, title=f"{each} of the set") for each in ("cup", "mug")]
        await api.put_items(pair)
        await eventually(are_there, "both are found")
        await visitor.go("/items?query=of+the+set&id=cup")
        await expect(field).to_have_value("cup of the set")
        try:
            await change("Large cup of the set")
            await field.fill("Largest cup of the set")
            await price.fill("much")
            # The page knows of it.
            await expect(page.get_by_text("'much' is not a number")).to_be_visible()
        finally:
            os.kill(system.server.pid, signal.SIGCONT)
        undo = page.locator(".undo")
        await expect(undo).to_contain_text("Large cup of the set was changed")
        await expect(page.locator(".item-title")).to_have_text("Large cup of the set")
        await expect(field).to_have_value("Largest cup of the set")
        await expect(price).to_have_value("much")

        await price.fill("")
        mug = page.locator(".found-item[data-item=mug]")
        try:
            await change("Largest cup of the set")
            await mug.click()
            await dialog.get_by_role("button", name="Leave").click()
            await expect(page).to_have_url(re.compile("id=mug$"))
        finally:
            os.kill(system.server.pid, signal.SIGCONT)
        await expect(undo).to_contain_text("Largest cup of the set was changed")
        await expect(field).to_have_value("mug of the set")
        await expect(page).to_have_url(re.compile("id=mug$"))
        for each in pair:
            await api.delete_item(each.item_id)


async def test_items_are_added_changed_and_deleted_and_all_of_it_is_undone(
    visitor: Visitor,
) -> None:
    page = visitor.page
    await visitor.go("/items")
    # Added.
    await page.get_by_role("button", name="New item").click()
    await page.get_by_label("Id", exact=True).fill("kettle")
    await page.get_by_label("Title").fill("Kettle")
    await page.get_by_label("Price").fill("much")
    await expect(page.get_by_text("'much' is not a number")).to_be_visible()
    await expect(page.get_by_role("button", name="Add …")).to_be_disabled()
    await page.get_by_label("Price").fill("12.5")
    await page.get_by_label("Attributes").fill('{"year": 1995}')
    await page.get_by_role("button", name="Add …").click()
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(page.locator(".undo")).to_contain_text("Kettle was added")
    await expect(page.locator(".item-title")).to_have_text("Kettle")

    # Taken back, it is shown no more; added again.
    await page.get_by_role("button", name="Undo").click()
    await expect(page.get_by_text("Choose an item of the list")).to_be_visible()
    await expect(page.get_by_role("button", name="Delete …")).to_have_count(0)
    await expect(page.get_by_role("region", name="Like it")).to_be_hidden()
    await page.get_by_role("button", name="New item").click()
    await page.get_by_label("Id", exact=True).fill("kettle")
    await page.get_by_label("Title").fill("Kettle")
    await page.get_by_label("Price").fill("12.5")
    await page.get_by_role("button", name="Add …").click()
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(page.locator(".item-title")).to_have_text("Kettle")

    # Changed, and as it was.
    await page.get_by_label("Title").fill("Teapot")
    await page.get_by_role("button", name="Change …").dblclick()
    await page.get_by_role("button", name="Change", exact=True).click()
    await expect(page.locator(".item-title")).to_have_text("Teapot")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.get_by_role("button", name="Undo").dblclick()
    await expect(page.locator(".item-title")).to_have_text("Kettle")
    await expect(page.locator(".toast", has_text="It is as it was.")).to_have_count(1)
    await expect(page.get_by_label("Price")).to_have_value("12.5")

    # Deleted, there again, and deleted for good.
    await page.get_by_label("Search").fill("kettle")
    found = page.locator(".found-item[data-item=kettle]")
    await expect(found).to_be_visible()
    for undone in (True, False):
        await page.get_by_role("button", name="Delete …").click()
        await expect(page.get_by_role("dialog")).to_contain_text("in no answer of any server")
        await page.get_by_role("button", name="Delete", exact=True).click()
        await expect(page.locator(".undo")).to_contain_text("Kettle was deleted")
        await expect(found).to_have_count(0)
        if undone:
            await page.get_by_role("button", name="Undo").click()
            await expect(page.locator(".item-title")).to_have_text("Kettle")
            await expect(found).to_be_visible()

    # A link to it says so, and offers what can be done.
    await visitor.go("/items?id=kettle")
    await expect(page.get_by_text("Not in the catalogue")).to_be_visible()
    await expect(page.get_by_role("button", name="Add …")).to_be_visible()
    await expect(page.get_by_role("button", name="Delete …")).to_have_count(0)


async def test_what_no_item_may_be_is_told_as_it_is_typed(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.go("/items")
    await page.get_by_role("button", name="New item").click()
    add = page.get_by_role("button", name="Add …")
    await expect(add).to_be_disabled()
    for label, wrong, told, right in (
        ("Id", "x" * 257, "It has 257 characters; it may be at most 256 characters.", "jug"),
        ("Title", "x" * 1_025, "It has 1,025 characters; it may be at most 1,024", "Jug"),
        ("Price", "-1", "-1 is out of range: it must be a number of 0 or more", "1"),
        ("Attributes", '{"a": NaN}', "NaN is no number of JSON", '{"a": null}'),
    ):
        field = page.get_by_label(label, exact=True)
        await field.fill(wrong)
        await expect(page.get_by_text(told)).to_be_visible()
        await expect(add).to_be_disabled()
        await field.fill(right)
        await expect(page.get_by_text(told)).to_have_count(0)
    await expect(add).to_be_enabled()


async def test_a_change_of_the_title_leaves_everything_else_as_it_was(
    system: System, visitor: Visitor
) -> None:
    page = visitor.page
    item = Item(
        item_id="hamper", title="Hamper", price=1234567.89,
        categories=["Food, Drink", " Gifts ", "two\nlines", "Gifts"],
    )  # fmt: skip
    async with AsyncClient(system.settings.url, KEY) as api:
        await api.put_items([item])
        await visitor.go("/items")
        await page.get_by_role("button", name="New item").click()
        await page.get_by_label("Id", exact=True).fill("hamper")
        await page.get_by_role("button", name="Add …").click()
        await expect(page.get_by_role("dialog")).to_contain_text("There is an item hamper already")
        await page.get_by_role("button", name="Cancel").click()
        # Until it is closed, nothing behind it can be typed into.
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await page.get_by_label("Search").fill("hamper")
        await expect(page.locator(".pager")).to_contain_text("1 to 1 of 1")
        await page.locator(".found-item[data-item=hamper]").click()
        await page.get_by_role("dialog").get_by_role("button", name="Leave").click()
        await expect(page.get_by_label("Title")).to_have_value("Hamper")
        await page.get_by_label("Title").fill("Large hamper")
        await page.get_by_role("button", name="Change …").click()
        await page.get_by_role("button", name="Change", exact=True).click()
        await expect(page.locator(".item-title")).to_have_text("Large hamper")
        kept = await api.item("hamper")
        assert (kept.title, kept.categories, kept.price) == (
            "Large hamper", item.categories, item.price,
        )  # fmt: skip
        await api.delete_item("hamper")


async def test_what_somebody_else_has_done_meanwhile_is_told_and_kept(
    system: System, visitor: Visitor
) -> None:
    page, dialog = visitor.page, visitor.page.get_by_role("dialog")

    async def price() -> float | None:
        try:
            return (await api.item("lamp")).price
        except NotFound:
            return -1

    async def is_priced(wanted: float | None) -> bool:
        return await price() == wanted

    async with AsyncClient(system.settings.url, KEY) as api:
        await api.put_items([Item(item_id="lamp", title="Lamp")])
        await visitor.go("/items")
        await page.get_by_label("Search").fill("lamp")
        await expect(page.locator(".pager")).to_contain_text("1 to 1 of 1")
        await page.locator(".found-item[data-item=lamp]").click()
        await page.get_by_label("Title").fill("Lantern")
        await api.put_items([Item(item_id="lamp", title="Lamp", price=5)])
        await eventually(lambda: is_priced(5), "the other one's change counts")
        await page.get_by_role("button", name="Change …").click()
        await expect(dialog).to_contain_text("Somebody has changed it since it was shown here.")
        assert await violations(page) == []
        await dialog.get_by_role("button", name="Cancel").click()

        await page.get_by_role("button", name="Delete …").click()
        await dialog.get_by_role("button", name="Delete").click()
        await page.get_by_role("button", name="Undo").click()
        await expect(page.get_by_label("Price")).to_have_value("5")
        assert await price() == 5

        # Undo asks, too, when it would take back what others did.
        await page.get_by_label("Title").fill("Lantern")
        await page.get_by_role("button", name="Change …").click()
        await dialog.get_by_role("button", name="Change").click()
        await expect(page.locator(".undo")).to_contain_text("Lantern was changed")
        await api.put_items([Item(item_id="lamp", title="Lantern", price=9)])
        await eventually(lambda: is_priced(9), "the other one's change counts")
        for answer, there in (("Cancel", 9), ("Undo", 5)):
            await page.locator(".undo").get_by_role("button", name="Undo").click()
            await expect(dialog).to_contain_text("Somebody has written it since.")
            await dialog.get_by_role("button", name=answer).click()
            await expect(dialog).to_have_count(0)
            await eventually(lambda there=there: is_priced(there), f"{there} is its price")
        await expect(page.locator(".item-title")).to_have_text("Lamp")

        await api.delete_item("lamp")
        await eventually(lambda: is_priced(-1), "it is deleted")
        await page.get_by_role("button", name="Delete …").click()
        told = "lamp is not in the catalogue: there is nothing to delete."
        await expect(page.locator(".toast.bad")).to_have_text(told)
        await expect(dialog).to_have_count(0)


async def test_who_may_not_change_the_catalogue_is_offered_no_change(
    system: System, browser: Browser
) -> None:
    key = await key_with(system, ["recommend"])
    vase = Item(
        item_id="vase", title="Vase", price=12.99, attributes={"year": 1995, "maker": None}
    )  # fmt: skip
    async with (
        visiting(browser, system.console) as someone,
        AsyncClient(system.settings.url, KEY) as api,
    ):
        await api.put_items([vase])
        page = someone.page
        await someone.come_in(key, "/items?id=vase")
        await expect(page.locator(".item-title")).to_have_text("Vase")
        # They are as the catalogue has them.
        for words in ("price: 12.99", "year: 1995", "maker: null"):
            await expect(page.get_by_text(words, exact=True)).to_be_visible()
        await api.delete_item("vase")
        for name in ("New item", "Change …", "Delete …"):
            assert await page.get_by_role("button", name=name).count() == 0
        await expect(page.get_by_role("img", name=re.compile("^Map of"))).to_be_visible()
