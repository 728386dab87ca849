"""Items in a real browser: searched, neighbours, what is bought together, popularity, the map."""

from __future__ import annotations

import re

import pytest
from browser import PATIENCE_MS, Visitor
from playwright.async_api import expect
from system import (
    MARKUP,
    OTHERS,
    RING,
    STEPS,
    TOGETHER,
    WALKERS,
    ring,
    title,
)  # fmt: skip

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
