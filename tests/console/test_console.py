"""The console in a real browser: its door, what a key opens, servers that go away, everybody."""

from __future__ import annotations

import re
import signal

import httpx
import pytest
from browser import PATIENCE_MS, Visitor, violations, visiting
from feed_tools import act
from parts import eventually
from playwright.async_api import Browser, expect
from system import KEY, System, key_with, ring, title

from console.pages import PAGES
from headrace.keys import KeyStore
from headrace.store import connect
from headrace_client import AsyncClient, Item

PATHS = [page.path for page in PAGES]
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(280)]
expect.set_options(timeout=PATIENCE_MS)


async def test_a_wrong_key_stays_outside(system: System, browser: Browser) -> None:
    async with visiting(browser, system.console) as someone:
        page = someone.page
        await page.goto(f"{system.console}/items?query=a+b&offset=20")
        assert page.url == f"{system.console}/door?to=/items%3Fquery%3Da%2Bb%26offset%3D20"
        await page.goto(f"{system.console}/models")
        assert page.url == f"{system.console}/door?to=/models"
        await page.fill("#key", "hr_0000_wrong")
        await page.get_by_role("button", name="Come in").click()
        await expect(page.get_by_role("alert")).to_contain_text("does not know this key")
        await page.fill("#key", KEY)
        await page.get_by_role("button", name="Come in").click()
        await someone.shown()
        assert page.url == f"{system.console}/models"
        cookies = await page.context.cookies()
        assert [(each["httpOnly"], each["sameSite"], each["expires"]) for each in cookies] == [
            (True, "Strict", -1)
        ]
        await page.get_by_role("button", name="Leave").click()
        await page.wait_for_url("**/door")
        await page.goto(f"{system.console}/models")
        assert "/door" in page.url


async def test_leaving_reaches_every_page_that_the_browser_has_open(
    system: System, browser: Browser
) -> None:
    async with visiting(browser, system.console) as someone:
        context = someone.page.context
        first, second, third = (
            someone,
            *[Visitor(system.console, await context.new_page()) for _ in range(2)],
        )
        doors = [(first, "/models"), (second, "/items")]
        for each, path in doors:
            await each.page.goto(f"{system.console}/door?to={path}")
        # Each tab comes in at its own door.
        for each, path in doors:
            await each.page.fill("#key", KEY)
            await each.page.get_by_role("button", name="Come in").click()
            await each.shown()
            assert each.page.url == system.console + path
        # Who is in is not asked.
        await third.go("/door?to=/live")
        assert third.page.url == f"{system.console}/live"
        await second.page.get_by_role("button", name="Leave").click()
        for each in (first, second, third):
            await each.page.wait_for_url("**/door")


async def test_a_feed_says_that_its_key_was_revoked(system: System, browser: Browser) -> None:
    key = await key_with(system, ["recommend", "erase"])
    async with visiting(browser, system.console) as someone:
        await someone.come_in(key, "/feed")
        page = someone.page
        await page.wait_for_selector(".card")
        redis = connect(system.settings)
        try:
            await KeyStore(redis, system.settings).remove(key.split("_")[1])
        finally:
            await redis.aclose()
        told = page.locator(".feed-panel .trouble-card")
        await expect(told).to_contain_text("The server has ended the stream of lists: ")
        await expect(told).to_contain_text("does not take this key any more")
        await expect(page.locator(".card").first).to_be_visible()
        # Nobody is forgotten, and nothing looks as if somebody were.
        await page.get_by_role("button", name="Forget me").click()
        await page.get_by_role("button", name="Forget", exact=True).click()
        await expect(page.locator(".toast.bad")).to_be_visible()
        await expect(page.locator(".card").first).to_be_visible()


async def test_a_key_that_opens_no_page_stays_outside(system: System, browser: Browser) -> None:
    key = await key_with(system, ["events", "erase"])
    async with visiting(browser, system.console) as someone:
        page = someone.page
        await page.goto(f"{system.console}/door")
        await page.fill("#key", key)
        await page.get_by_role("button", name="Come in").click()
        told = "This key is for erase or events alone; a page needs recommend or train."
        await expect(page.get_by_role("alert")).to_have_text(told)
        assert await page.context.cookies() == []


async def test_an_open_page_outlives_the_server(system: System, visitor: Visitor) -> None:
    """So does one that is opened while it is away."""
    page = visitor.page
    await page.wait_for_selector(".card")
    items = await page.context.new_page()
    await items.goto(f"{system.console}/items?id={ring(1)}")
    await expect(items.locator(".item-title")).to_have_text(title(1))
    shown = {"/live": "tbody tr", "/models": ".version", "/streams": "tbody tr"}
    there = {path: await page.context.new_page() for path in shown}
    for path, each in there.items():
        await each.goto(system.console + path)
        await each.wait_for_selector(shown[path])
    system.server.end(signal.SIGTERM)
    for each in (page, *there.values()):
        await expect(each.locator(".pill.bad")).to_contain_text("does not answer")
        await expect(each.locator(".trouble-card").first).to_contain_text("headrace up")
    # What was shown stays, and what is done says what is broken.
    for path, each in there.items():
        assert await each.locator(shown[path]).count() > 0
    await page.locator(".card").first.get_by_role("button", name="Open").click()
    await expect(page.locator(".toast.bad")).to_contain_text("does not answer")
    # Nor is shown as done what nobody has taken, or as asked what was given up.
    await page.locator(".card").first.get_by_role("button", name="Rate 4 of 5").click()
    await expect(page.locator(".toast.bad")).to_have_count(2)
    await expect(page.locator(".star.given")).to_have_count(0)
    sent = page.locator(".call-list li", has_text="/v1/events").first
    await expect(sent.locator(".badge.bad")).to_have_text("no answer")
    # While another item is on its way, nothing acts on the one before.
    await items.locator(".found-item").first.click()
    await expect(items.locator(".trouble-card").first).to_contain_text("headrace up")
    await expect(items.get_by_role("button", name="Delete …")).to_have_count(0)
    late = {path: await page.context.new_page() for path in ("/feed", "/models", "/items")}
    for path, each in late.items():
        await each.goto(system.console + path)
        await expect(each.locator(".trouble-card").first).to_be_visible()

    system.server.start()
    for each in (page, *there.values()):
        await expect(each.locator(".pill.good")).to_be_visible()
    for each in (page, items, *there.values(), *late.values()):
        await expect(each.locator(".trouble-card")).to_have_count(0)
    await expect(late["/models"].get_by_label("Epochs")).to_be_visible()
    await expect(late["/items"].locator(".pager")).to_contain_text("1 to 20 of")
    await expect(late["/feed"].locator(".card").first).to_be_visible()
    await expect(late["/feed"].get_by_label("Category").get_by_role("option")).not_to_have_count(1)
    await act(page, "Open")


async def test_a_page_says_that_the_console_is_away_and_what_that_may_have_cost(
    system: System, visitor: Visitor
) -> None:
    page = visitor.page
    told = page.get_by_text("The connection to the console was lost at")
    await expect(page.locator(".pill.good")).to_be_visible()
    system.console_part.end(signal.SIGTERM)
    try:
        # How the server is, nobody knows now.
        await expect(page.get_by_text("Not connected", exact=True)).to_be_visible()
        await expect(page.locator(".pill.good")).not_to_be_visible()
    finally:
        system.console_part.start()
    # It knows no session and no page from before.
    await page.wait_for_url("**/door?to=/feed")
    await page.fill("#key", KEY)
    await page.get_by_role("button", name="Come in").click()
    await visitor.shown()
    await expect(told).to_contain_text("what was done since then may not have arrived")
    await expect(page.get_by_text("Not connected", exact=True)).not_to_be_visible()
    await page.get_by_role("button", name="Close this message").click()
    await visitor.go("/feed")
    await page.wait_for_selector(".card")
    await expect(told).to_have_count(0)


CUT_OFF_AT = "sessionStorage.getItem('headrace-cut-off-at')"


async def test_after_a_short_cut_a_page_that_is_loaded_again_says_nothing_of_it(
    visitor: Visitor,
) -> None:
    page = visitor.page
    await page.clock.install()
    await visitor.go("/models")

    async def was_cut() -> bool:
        is_back = "document.getElementById('popup').ariaHidden !== 'false'"
        return bool(await page.evaluate(f"{CUT_OFF_AT} !== null && {is_back}"))

    await page.evaluate("window.socket.io.engine.close()")
    await eventually(was_cut, "the connection was cut and is there again")
    await page.clock.fast_forward(3_000)
    assert await page.evaluate(CUT_OFF_AT) is None
    await page.reload()
    await visitor.shown()
    await expect(page.get_by_text("The connection to the console was lost at")).to_have_count(0)


async def test_where_there_is_no_page_it_says_so(visitor: Visitor) -> None:
    page = visitor.page
    await page.goto(f"{visitor.url}/<b>nowhere")
    await expect(page.locator("main")).to_contain_text("The console has no page /<b>nowhere.")
    assert await violations(page) == []
    await page.get_by_role("link", name="first page").click()
    await expect(page.locator("h1")).to_have_text("Feed")


BROKEN = """links => links.filter((link) => {
    const range = document.createRange();
    range.selectNodeContents(link);
    return new Set([...range.getClientRects()].map((each) => Math.round(each.top))).size > 1;
}).map((link) => link.textContent)"""


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_pages_are_for_everybody(colours: str, system: System, browser: Browser) -> None:
    """No page has what axe finds more than minor, and none is wider than its window."""
    async with visiting(browser, system.console, colours=colours) as someone:  # type: ignore[arg-type]
        await someone.page.goto(f"{system.console}/door")
        assert await violations(someone.page) == []
        await someone.come_in(KEY)
        for path in PATHS:
            await someone.go(path)
            await someone.page.wait_for_timeout(1_000)
            for width in (1_280, 375, 2_560):
                await someone.page.set_viewport_size({"width": width, "height": 900})
                # Pictures are drawn anew for the width, a moment later.
                await someone.page.wait_for_function(
                    "width => document.documentElement.scrollWidth <= width", arg=width
                )
                await expect(someone.page.get_by_label("Colours: ")).to_be_visible()
                names = someone.page.locator("nav a")
                assert await names.evaluate_all(BROKEN) == [], (path, width)
                await expect(names.last).to_be_in_viewport(ratio=1)
                assert await violations(someone.page) == [], (path, width)
        assert someone.faults == []


@pytest.mark.parametrize("width", [375, 1_280])
async def test_the_longest_ids_widen_no_page(width: int, system: System, browser: Browser) -> None:
    item, user, category = "i" * 256, "u" * 256, "c" * 64
    async with (
        visiting(browser, system.console, width=width) as someone,
        AsyncClient(system.settings.url, KEY) as api,
    ):
        page = someone.page

        async def fits() -> bool:
            scrolled = await page.evaluate("document.documentElement.scrollWidth")
            return int(scrolled) <= width

        async def is_there() -> bool:
            return (await api.items(category=category)).count == 1

        await api.put_items([Item(item_id=item, categories=[category])])
        await eventually(is_there, "the item is found")
        await someone.come_in(KEY, f"/items?id={item}%26category={category}")
        await expect(page.locator("p.mono")).to_have_text(item)
        await expect(page.locator(f".found-item[data-item={item}]")).to_be_visible()
        assert await fits()
        await page.get_by_label("Price").fill("1")
        await page.get_by_role("button", name="Change …").click()
        await page.get_by_role("dialog").get_by_role("button", name="Change").click()
        await expect(page.locator(".undo")).to_contain_text(item)
        assert await fits()
        await someone.go(f"/feed?category={category}")
        await page.get_by_label("User", exact=True).fill(user)
        await page.get_by_role("button", name="Be this user").click()
        await expect(page.locator(".counts")).to_contain_text(user)
        await expect(page.locator(f".card[data-item={item}]")).to_be_visible()
        await act(page, "Open")
        await expect(page.locator(".interactions li")).to_have_count(1)
        assert await fits()
        await api.erase(user)
        await api.delete_item(item)


async def test_the_colours_are_chosen_and_stay_chosen(visitor: Visitor) -> None:
    page = visitor.page
    button = page.get_by_label("Colours: ")
    for name, scheme in (("Light", "light"), ("Dark", "dark")):
        await button.click()
        await expect(button).to_have_text(name)
        await expect(page.locator("body")).to_have_class(re.compile(f"body--{scheme}"))
    await visitor.go("/items")
    await expect(page.locator("body")).to_have_class(re.compile("body--dark"))
    await button.click()
    await expect(button).to_have_text("As the system")


BELOW = """element => element.getBoundingClientRect().top
    >= document.querySelector('.top').getBoundingClientRect().bottom"""


async def test_the_keyboard_alone_is_enough(visitor: Visitor) -> None:
    page = visitor.page
    await page.wait_for_selector(".card")
    await page.evaluate("document.body.focus()")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the page"
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    for width in (1_280, 700):
        await page.set_viewport_size({"width": width, "height": 500})
        heading, last = page.locator("h1"), page.locator(".card").last.get_by_label("Buy")
        for up in (heading, page.locator(".limits select").first):
            # Scrolled down, then up to what is above: as with Shift and Tab, or the skip link.
            await last.focus()
            if up is heading:
                await page.locator(".skip").press("Enter")
            else:
                await up.focus()
            assert await up.evaluate(BELOW), (width, await up.inner_text())
    await page.set_viewport_size({"width": 1_280, "height": 900})
    button = page.locator(".card").nth(1).get_by_role("button", name="Rate 4 of 5")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".interactions li")).to_contain_text("rated 4")


async def test_every_answer_carries_the_strict_policy(system: System) -> None:
    async with httpx.AsyncClient(base_url=system.console, trust_env=False) as client:
        for path in ("/door", "/static/console.css", "/feed", "/nowhere"):
            policy = (await client.get(path)).headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "default-src 'none'" in policy
        foreign = {"origin": "https://elsewhere.example"}
        answer = await client.post("/door", data={"key": KEY}, headers=foreign)
        assert answer.status_code == 403
        # As with a proxy that asks for the console by another name.
        assert "proxy_set_header Host $http_host;" in answer.text
        assert "elsewhere.example" in answer.text


async def test_the_door_leads_to_no_other_place(system: System) -> None:
    async with httpx.AsyncClient(base_url=system.console, trust_env=False) as client:
        # No address at all, and no origin.
        assert (await client.get("/door?to=//[")).status_code == 200
        answer = await client.post("/door", data={"key": KEY}, headers={"origin": "https://["})
        assert answer.status_code == 403
        for to, page in (
            ("/models", "/models"),
            ("/items?query=tea+pot&id=a%2Fb", "/items?query=tea+pot&id=a%2Fb"),
            ("//evil.example/feed", "/"),
            ("/\t/evil.example/feed", "/"),
            ("https://evil.example/feed", "/"),
            ("//[", "/"),
            ("feed", "/"),
        ):
            answer = await client.post("/door", data={"key": KEY, "to": to})
            assert (answer.status_code, answer.headers["location"]) == (303, page), to
        none = await client.post("/door", data={"key": ""})
        assert (none.status_code, "and none was given" in none.text) == (401, True)
        wrong = await client.post("/door", data={"key": "wrong"})
        assert (wrong.status_code, "does not know this key" in wrong.text) == (401, True)
