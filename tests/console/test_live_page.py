"""Live in a real browser: what goes on now, over an hour and a day, and the versions' quality."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime

import pytest
from browser import PATIENCE_MS, Visitor
from parts import eventually
from playwright.async_api import expect
from system import KEY, System

from headrace_client import AsyncClient, Click, RecommendationRequest

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(280)]
expect.set_options(timeout=PATIENCE_MS)


UNSELECT = """async (chart) => {
    const { echarts } = await import("nicegui-echart");
    echarts.getInstanceByDom(chart).dispatchAction({ type: "legendUnSelect", name: "requests" });
}"""
SWAPS = """async (chart) => {
    const { echarts } = await import("nicegui-echart");
    const { legend, series } = echarts.getInstanceByDom(chart).getOption();
    const swaps = series.find((each) => each.name === "swaps");
    const told = swaps.data.map((_, which) => swaps.tooltip.valueFormatter(0, which));
    return [legend[0].data, swaps.markLine.data.map((each) => each.xAxis), told];
}"""
IN_LEGEND = """async (chart) => {
    const { echarts } = await import("nicegui-echart");
    return echarts.getInstanceByDom(chart).getOption().legend[0].formatter("popularity");
}"""
SELECTED = """async (chart) => {
    const { echarts } = await import("nicegui-echart");
    return echarts.getInstanceByDom(chart).getOption().legend[0].selected.requests;
}"""


async def lists_are_judged(api: AsyncClient) -> bool:
    """Ask for a list, take its first item, and look whether any list is judged by now."""
    listed = await api.recommend(RecommendationRequest(user_id="watched-live", recommend_seen=True))
    # A worker reads what was served from a topic of its own, a moment after.
    await asyncio.sleep(0.5)
    taken = listed.recommendations[0].id
    now = time.time()
    await api.send_event(
        Click(event_id=f"live-{now}", user_id="watched-live", item_id=taken, timestamp=now)
    )
    return bool((await api.figures(window="1h")).quality.by_label)


async def test_what_goes_on_is_shown_and_said_over_an_hour_and_a_day(
    system: System, visitor: Visitor
) -> None:
    async with AsyncClient(system.settings.url, KEY) as api:
        live = next(each.live for each in (await api.models()).models if each.live is not None)
        await eventually(lambda: lists_are_judged(api), "lists served are judged")
    page = visitor.page
    await visitor.go("/live")
    now = page.get_by_role("region", name="Now")
    for name in ("Events applied", "Lag", "Requests", "Time to answer, p99", "Server errors"):
        figure = now.locator(".figure", has_text=name)
        await expect(figure.locator(".value")).to_have_text(re.compile(r"\d"))
        # The time that it is from: the end of a step, or when the last one was told of.
        at = datetime.fromisoformat(
            str(await figure.locator("time").get_attribute("datetime")).replace("Z", "+00:00")
        )
        assert at.timestamp() <= time.time()
        # One time of 24 hours, here as on the axes.
        await expect(figure.locator("time")).not_to_contain_text(re.compile("[AP]M"))
    await expect(now).to_contain_text("a point each 10 s")
    await expect(now).to_contain_text("Each is of the 10 s up to the time under it.")
    events = page.get_by_label(re.compile(r"^Events by topic\. .*clicks"))
    await expect(events).to_have_role("img")
    quality = page.get_by_label(re.compile(r"^HR@10, rolling\. .*Swaps: .*" + live.version))
    await expect(quality).to_be_visible()
    # Of few events a number says little, so it says of how many it is.
    of_events = re.compile(r"^HR@10, rolling\. .*popularity [0-9.,]+ of [0-9,]+ events?\b")
    await expect(quality).to_have_attribute("aria-label", of_events)
    assert re.fullmatch("popularity: [0-9,]+ events?", await quality.evaluate(IN_LEGEND))
    # Swaps are no line of the legend's, so hiding a version hides none of them.
    [legend, swaps, told] = await quality.evaluate(SWAPS)
    assert "swaps" not in legend
    assert "popularity" in legend
    assert swaps
    # The tip of each one's step names all that it stands for.
    assert len(told) == len(swaps)
    assert live.version.rpartition("-")[2] in told[-1]
    route = page.get_by_role("row", name="POST /v1/recommendations")
    await expect(route.locator("td").first).to_have_text(re.compile(r"^[1-9]"))

    await page.get_by_role("link", name="Skip to the page").press("Enter")
    await page.get_by_label("Window").select_option("1d")
    await expect(
        now.get_by_text("a point each 5\u00a0min, of the time up to it", exact=True)
    ).to_be_visible()
    # What is of now is of now, however long the window is.
    await expect(now).to_contain_text("Each is of the 10 s")
    await expect(page).to_have_url(re.compile(r"/live\?window=1d$"))
    # Back before the skip link: the page stays, and the address says what it shows.
    await page.go_back()
    await expect(page).to_have_url(re.compile(r"/live\?window=1d$"))
    await page.reload()
    await expect(page.get_by_label("Window")).to_have_value("1d")
    await expect(now).to_contain_text("a point each 5")
    await expect(page.get_by_label(re.compile("^Time to answer. .*p99 .* ms"))).to_be_visible()
    await expect(quality).to_be_visible()
    await page.get_by_label("Window").select_option("1h")
    await expect(now).to_contain_text("a point each 10 s")
    await expect(page).to_have_url(re.compile("/live$"))


async def test_a_browser_whose_clock_is_slow_is_not_told_that_all_is_of_now(
    visitor: Visitor,
) -> None:
    page = visitor.page
    await page.clock.set_fixed_time(time.time() - 600)
    await visitor.go("/live")
    lag = page.get_by_role("region", name="Now").locator(".figure", has_text="Lag")
    await expect(lag.locator("time")).to_have_text(re.compile(r" · in (9|10) min$"))


async def test_what_the_reader_does_outlasts_a_look(system: System, visitor: Visitor) -> None:
    page = visitor.page
    async with AsyncClient(system.settings.url, KEY) as api:
        wanted = RecommendationRequest(user_id="passer")
        await api.recommend(wanted)
        await visitor.go("/live")
        row = page.get_by_role("row", name="POST /v1/recommendations")
        figure = page.get_by_role("region", name="Now").locator(".figure .value").first
        for each in (row, figure):
            await each.evaluate("element => { element.kept = true; }")
        chart = page.get_by_role("img", name=re.compile("^Requests and errors"))
        await expect(chart).to_be_visible()
        await chart.evaluate(UNSELECT)
        said = await chart.get_attribute("aria-label") or ""
        before = await row.locator("td").first.inner_text()
        await api.recommend(wanted)
    await expect(row.locator("td").first).not_to_have_text(before)
    await expect(chart).not_to_have_attribute("aria-label", said)
    for each in (row, figure):
        assert await each.evaluate("element => element.kept === true")
    assert await chart.evaluate(SELECTED) is False
