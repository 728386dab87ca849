"""Items in a real browser: searched, changed with a way back, neighbours, popularity, the map."""

from __future__ import annotations

import os
import re
import signal

import pytest
from browser import PATIENCE_MS, Visitor, violations, visiting
from parts import eventually
from playwright.async_api import Browser, Dialog, expect
from system import (
    KEY,
    MARKUP,
    OTHERS,
    RING,
    STEPS,
    TOGETHER,
    WALKERS,
    System,
    key_with,
    ring,
    title,
)  # fmt: skip

from headrace_client import AsyncClient, Item, NotFound

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(280)]
expect.set_options(timeout=PATIENCE_MS)


OPTION = """async (chart, name) => {
    const { echarts } = await import("nicegui-echart");
    return echarts.getInstanceByDom(chart).getOption()[name];
}"""
POINT = """async (element, id) => {
    const { echarts } = await import("nicegui-echart");
    const chart = echarts.getInstanceByDom(element);
    const points = chart.getOption().series.flatMap(({ data }, seriesIndex) => data.map(
        ({ id, value }) => ({ id, at: chart.convertToPixel({ seriesIndex }, value) })));
    const [x, y] = points.find((each) => each.id === id).at;
    const isNear = ({ at }) => Math.hypot(at[0] - x, at[1] - y) < 8;
    return { x, y, near: points.filter(isNear).map((each) => each.id) };
}"""
"""Where an item's point is in the map, and which items' points are there."""


async def test_ten_thousand_items_are_searched_and_turned_over(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.go("/items")
    pager = page.locator(".pager")
    await expect(pager).to_contain_text(f"1 to 20 of {OTHERS + RING:,}")
    # Twice the same page, not the next but one.
    await page.get_by_role("button", name="Next").dblclick()
    await expect(pager).to_contain_text(f"21 to 40 of {OTHERS + RING:,}")
    await expect(page).to_have_url(re.compile(r"/items\?offset=20$"))
    await page.get_by_label("Search").fill("of the ring")
    # Item 0 has markup for its title.
    await expect(pager).to_contain_text(f"1 to {RING - 1} of {RING - 1}")
    await page.get_by_label("Category", exact=True).select_option("Other")
    await expect(page.get_by_text("No item of the catalogue is like that.")).to_be_visible()


async def test_the_search_and_the_item_are_kept_in_the_address(visitor: Visitor) -> None:
    page, pager = visitor.page, visitor.page.locator(".pager")
    # There are no more pages than one.
    await visitor.go("/items?query=of+the+ring&offset=20")
    await expect(pager).to_contain_text(f"1 to {RING - 1} of {RING - 1}")
    await expect(page.get_by_label("Search")).to_have_value("of the ring")
    options = page.get_by_label("Category", exact=True).get_by_role("option")
    await expect(options.filter(has_text="Other")).to_have_count(1)
    shown = page.locator(".item-title")
    for number in (5, 6):
        await page.locator(f".found-item[data-item='{ring(number)}']").click()
        await expect(shown).to_have_text(title(number))
    await page.reload()
    await expect(shown).to_have_text(title(6))
    await expect(pager).to_contain_text(f"1 to {RING - 1} of {RING - 1}")
    await page.go_back()
    await expect(shown).to_have_text(title(5))
    await page.go_back()
    await expect(page.get_by_text("Choose an item of the list")).to_be_visible()
    await page.go_forward()
    await expect(shown).to_have_text(title(5))

    # Back brings what was searched for before, whatever was typed and chosen since.
    await visitor.go("/items")
    await page.locator(".found-item").first.click()
    await page.get_by_label("Search").fill("of the ring")
    category = page.get_by_label("Category", exact=True)
    await category.select_option("Other")
    await expect(page.get_by_text("No item of the catalogue is like that.")).to_be_visible()
    await page.go_back()
    await expect(pager).to_contain_text("1 to 20 of")
    await expect(page.get_by_label("Search")).to_have_value("")
    await expect(category).to_have_value("")


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


async def test_a_title_that_is_markup_is_text_in_lists_forms_and_the_map(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.go("/items")
    await page.get_by_label("Search").fill("onerror")
    row = page.locator(".pager", has_text="1 to 1 of 1").locator("..").locator(".found-item")
    await expect(row.locator(".found-title")).to_have_text(MARKUP)
    await row.click()
    await expect(page.locator(".item-title")).to_have_text(MARKUP)
    await expect(page.get_by_label("Title")).to_have_value(MARKUP)
    await expect(page.get_by_role("img", name="Map of")).to_be_visible()
    assert await page.locator(".panel img, .panel b").count() == 0
    assert "hacked" not in await page.title()


async def test_an_item_s_neighbours_popularity_and_place_are_shown(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.go("/items")
    await page.get_by_label("Search").fill(title(5))
    await page.locator(f".found-item[data-item='{ring(5)}']").click()
    similar = page.get_by_role("region", name="Like it")
    await expect(similar.locator(".found-item")).to_have_count(8)
    together = page.get_by_role("region", name="Bought together")
    # Nobody buys it.
    nothing = together.locator(".none")
    await expect(nothing).to_contain_text("bought together")
    await expect(nothing).not_to_contain_text("404")
    # Each walker met one item a step; others may have met more since.
    met = sum((user + step) % RING == 5 for step in range(STEPS) for user in range(WALKERS))
    chart = page.get_by_role("img", name=re.compile("^Popularity: [0-9,]+ events"))
    words = await chart.get_attribute("aria-label")
    assert words is not None
    assert int(words.split()[1].replace(",", "")) >= met
    # A day is one of UTC, wherever the browser is.
    for step, is_utc in (("hour", False), ("day", True)):
        await page.get_by_label("By", exact=True).select_option(step)
        stepped = page.get_by_role("img", name=re.compile(rf"^Popularity: .* over \d+ {step}s$"))
        assert await stepped.evaluate(OPTION, "useUTC") == is_utc
    await expect(page.get_by_role("img", name=re.compile("^Map of [0-9,]+ items"))).to_be_visible()
    first = await similar.locator(".found-title").first.inner_text()
    await similar.locator(".found-item").first.click()
    await expect(page.locator(".item-title")).to_have_text(first)


async def test_what_is_bought_together_and_a_click_on_the_map_lead_to_an_item(
    visitor: Visitor,
) -> None:
    page, (one, other) = visitor.page, TOGETHER
    await visitor.go(f"/items?id={ring(one)}")
    together = page.get_by_role("region", name="Bought together").locator(".found-item")
    # Whoever bought one bought the other one.
    await expect(together).to_have_text([re.compile(rf"{re.escape(title(other))}\s*100\.0")])
    await together.click()
    await expect(page.locator(".item-title")).to_have_text(title(other))

    await visitor.go("/items")
    chart = page.get_by_role("img", name=re.compile("^Map of"))
    await expect(chart).to_be_visible()
    found = await chart.evaluate(POINT, ring(one))
    await chart.click(position={"x": found["x"], "y": found["y"]})
    shown = await page.locator(".item-title + .mono").inner_text()
    assert shown in found["near"]
    await expect(page).to_have_url(re.compile(f"id={shown}$"))


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


async def test_of_two_items_chosen_at_once_the_last_one_is_shown(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.go("/items")
    await page.get_by_label("Search").fill("of the ring")
    rows = page.locator(".found-item[data-item^=ring-]")
    await expect(rows).to_have_count(RING - 1)
    await rows.evaluate_all("rows => rows.forEach((row) => row.click())")
    last = await rows.last.get_attribute("data-item")
    await expect(page.locator(".item-title + .mono")).to_have_text(last or "")
    similar = page.get_by_role("region", name="Like it").locator(".found-item")
    await expect(similar).to_have_count(8)
    assert await rows.last.locator(".found-title").inner_text() not in (
        await similar.locator(".found-title").all_inner_texts()
    )


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


async def test_the_keyboard_stays_on_what_turns_the_page(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.go("/items")
    await page.get_by_label("Search").fill("of the ring")
    await expect(page.locator(".pager")).to_contain_text("of 11")
    await page.get_by_label("Search").fill("")
    onward = page.get_by_role("button", name="Next")
    await expect(page.locator(".pager")).to_contain_text("1 to 20 of")
    await onward.focus()
    for shown in ("21 to 40", "41 to 60"):
        await page.keyboard.press("Enter")
        await expect(page.locator(".pager")).to_contain_text(shown)
        await expect(onward).to_be_focused()
