"""The main ways through the console, in a real browser against a running system."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Sequence

import httpx
import pytest
from browser import PATIENCE_MS, Visitor, serious, visiting
from playwright.async_api import Browser, Page, expect
from system import KEY, MARKUP, TRAINED_WITHIN_S, System, key_with, ring

from console.pages import PAGES
from headrace.keys import KeyStore, Scope
from headrace.store import connect
from headrace_client import AsyncClient

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(280)]
PATHS = [page.path for page in PAGES]
expect.set_options(timeout=PATIENCE_MS)

MEASURE = """() => {
    const list = document.querySelector('.cards');
    const state = window.measured = {began: null, ms: null};
    document.addEventListener('click', (event) => {
        if (!event.target.closest('.card-actions')) return;
        [state.began, state.ms] = [event.timeStamp, null];
    }, true);
    const ids = () => [...list.querySelectorAll('.card')].map((each) => each.dataset.item).join();
    let before = ids();
    new MutationObserver(() => {
        const now = ids();
        if (now === before) return;
        before = now;
        if (state.began !== null && state.ms === null) state.ms = performance.now() - state.began;
    }).observe(list, {childList: true, subtree: true, attributes: true});
}"""
"""Notes, apart from the page's own measure, how long after a click the cards are others."""


async def test_three_acts_change_the_list_at_once_and_the_delay_shown_is_the_one_measured(
    visitor: Visitor,
) -> None:
    page = visitor.page
    await page.wait_for_selector(".card")
    await page.evaluate(MEASURE)
    acts = ["Open", "Rate 5 of 5", "Buy"]
    in_a_row = tries = 0
    while in_a_row < 3:
        before = await cards(page)
        shown = await act(page, acts[tries % 3])
        measured = float(await page.evaluate("window.measured.ms"))
        assert abs(shown - measured) < 50
        assert await cards(page) != before
        # A busy machine may be late once; the feed is not.
        in_a_row = in_a_row + 1 if measured < 1_000 else 0
        tries += 1
        assert tries < 8
    await expect(page.locator(".interactions li")).to_have_count(tries)
    await expect(page.locator(".why").first).to_contain_text("points you")
    assert await page.locator(".move.new, .move.up, .move.down").count() > 0


async def test_calls_are_shown_as_curl_without_the_key(visitor: Visitor) -> None:
    page = visitor.page
    await page.wait_for_selector(".card")
    await act(page, "Open")
    call = page.locator(".call-list li", has_text="/v1/events").first
    await call.locator("summary").click()
    line = await call.locator("pre").inner_text()
    assert line.startswith('curl -s "$HEADRACE_URL/v1/events" -H "Authorization: Bearer $HEADRACE')
    assert '"type":"click"' in line
    assert KEY not in await page.content()


async def test_a_title_that_is_markup_shows_as_text(visitor: Visitor) -> None:
    page = visitor.page
    await page.get_by_label("Category").select_option("Ring")
    card = page.locator(f".card[data-item='{ring(0)}']")
    await expect(card.locator("h3")).to_have_text(MARKUP)
    assert await page.locator(".card img, .card b").count() == 0
    await card.get_by_role("button", name="Open").click()
    await expect(page.locator(".interactions")).to_contain_text(MARKUP)
    await expect(page.locator(".delay")).to_contain_text(MARKUP)
    assert "hacked" not in await page.title()


async def test_the_limits_of_the_list_hold_and_the_user_is_forgotten(visitor: Visitor) -> None:
    page = visitor.page
    user_id = f"guest-{uuid.uuid4().hex[:6]}"
    await page.get_by_label("User", exact=True).fill(user_id)
    await page.get_by_role("button", name="Be this user").click()
    await page.get_by_label("Show").select_option("6")
    await expect(page.locator(".card")).to_have_count(6)
    await page.get_by_label("Category").select_option("Ring")
    await expect(page.locator(".card .chip", has_text="Ring")).to_have_count(6)
    first = page.locator(".card").first
    opened = await first.get_attribute("data-item")
    await first.get_by_role("button", name="Open").click()
    await expect(page.locator(".interactions li")).to_have_count(1)
    await expect(page.locator(f".card[data-item='{opened}']")).to_have_count(0)

    await page.get_by_role("button", name="Forget me").click()
    await page.get_by_role("button", name="Forget", exact=True).click()
    await expect(page.locator(".toast.good")).to_contain_text("Forgotten")
    await expect(page.locator(".interactions")).to_have_count(0)


async def test_a_newcomer_picks_a_user_of_the_data(visitor: Visitor) -> None:
    page = visitor.page
    known = page.get_by_role("group", name="Users of your data").get_by_role("button")
    await expect(known.first).to_be_visible()
    assert 1 <= await known.count() <= 5
    user_id, _, met = (await known.first.inner_text()).rpartition(" · ")
    await known.first.click()
    await expect(page.get_by_label("User", exact=True)).to_have_value(user_id)
    await expect(page.locator(".interactions li")).to_have_count(int(met))
    await expect(page.locator(".card").first).to_be_visible()


async def test_what_is_no_user_id_is_told_and_nobody_else_s_list_stays(visitor: Visitor) -> None:
    page = visitor.page
    await act_first(page)
    await page.get_by_label("User", exact=True).fill("x" * 300)
    await page.get_by_role("button", name="Be this user").click()
    await expect(page.locator(".feed-panel .trouble-card")).to_contain_text("user_id")
    await expect(page.locator(".card, .interactions li")).to_have_count(0)
    await page.get_by_role("button", name="New visitor").click()
    await expect(page.locator(".card").first).to_be_visible()
    await expect(page.locator(".trouble-card")).to_have_count(0)


async def test_an_act_that_no_list_answers_leaves_no_card_dimmed(
    system: System, visitor: Visitor
) -> None:
    page = visitor.page
    busy = page.locator(".card-actions[aria-busy=true]")
    await page.wait_for_selector(".card")
    os.kill(system.worker.pid, signal.SIGSTOP)
    try:
        await page.locator(".card").first.get_by_role("button", name="Open").click()
        await expect(busy).to_have_count(1)
        await page.get_by_role("button", name="New visitor").click()
        await page.wait_for_selector(".card")
        await expect(busy).to_have_count(0)
    finally:
        os.kill(system.worker.pid, signal.SIGCONT)


async def test_a_training_is_watched_to_its_end_activated_and_rolled_back(
    system: System,
    visitor: Visitor,
) -> None:
    page = visitor.page
    await visitor.go("/models")
    first = await page.locator(".version.is-live h3").inner_text()
    tasks, versions = page.locator(".task"), page.locator(".version")
    await expect(tasks).not_to_have_count(0)
    trained, made = await tasks.count(), await versions.count()
    await versions.first.get_by_text("Data, parameters and what changed").click()
    newest = await versions.first.locator("h3").inner_text()
    unfolded = versions.filter(has=page.locator("h3", has_text=newest))
    await page.get_by_label("Epochs").fill("0")
    await expect(page.get_by_text("0 is out of range: it must be a whole number")).to_be_visible()
    await expect(page.get_by_role("button", name="Train …")).to_be_disabled()
    await page.get_by_label("Epochs").fill("3")
    await page.get_by_label("Seed").fill("7")
    await page.get_by_label("Mode", exact=True).select_option("full")
    await page.get_by_role("button", name="Train …").dblclick()
    await page.get_by_role("button", name="Train", exact=True).click()

    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(tasks).to_have_count(trained + 1)
    task = tasks.first
    await expect(task.locator("[data-status=RUNNING], [data-status=SUCCEEDED]")).to_be_visible()
    await task.get_by_role("button", name="Log").click()
    await expect(page.locator("dialog .log")).not_to_have_text("Loading …")
    await page.keyboard.press("Escape")
    await expect(page.locator("dialog")).to_have_count(0)
    ended = task.locator("[data-status=SUCCEEDED], [data-status=REJECTED]")
    await expect(ended).to_be_visible(timeout=1_000 * TRAINED_WITHIN_S)
    await expect(versions).to_have_count(made + 1)
    second = await page.locator(".version h3").first.inner_text()
    assert second != first
    await expect(page.locator(".version").first).to_contain_text("NDCG@10")

    live = page.locator(".version.is-live h3")
    # What the gate lets through goes live by itself.
    accepted = await task.locator("[data-status=SUCCEEDED]").count()
    await expect(live).to_have_text(second if accepted else first)
    for name in (first, second):
        if await live.inner_text() != name:
            await page.get_by_role("button", name=f"Activate {name}").click()
            await page.get_by_role("button", name="Activate", exact=True).click()
            await expect(live).to_have_text(name)
    back, dialog = page.get_by_role("button", name="Roll back"), page.get_by_role("dialog")
    await page.get_by_role("button", name=f"Delete {first}").click()
    await expect(dialog).to_contain_text("A rollback leads to it now")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_have_count(0)
    await back.dblclick()
    await dialog.get_by_role("button", name="Roll back").dblclick()
    await expect(live).to_have_text(first)
    await expect(dialog).to_have_count(0)
    async with AsyncClient(system.settings.url, KEY) as api:

        async def is_live() -> str | None:
            models = (await api.models()).models
            return next(each.live.version for each in models if each.live is not None)

        assert await is_live() == first
        # Rolled back by somebody else while it is asked, it would lead forth again.
        await back.click()
        await expect(dialog).to_contain_text(f"{second}, which was live before")
        await api.roll_back(system.settings.model_id)
        await dialog.get_by_role("button", name="Roll back").click()
        told = f"Nothing was done: by now a rollback leads to {first}"
        await expect(page.locator(".toast.bad")).to_contain_text(told)
        assert await is_live() == second

        await api.pin(system.settings.model_id, second)
        await expect(page.locator(".live-head .badge")).to_have_text("pinned")
        await page.get_by_role("button", name=f"Activate {first}").click()
        await expect(dialog).to_contain_text(f"{second} is pinned: the pin moves along")
        await dialog.get_by_role("button", name="Activate").click()
        await expect(live).to_have_text(first)
        await api.unpin(system.settings.model_id)
    # Drawn anew by now, what was unfolded still is.
    await expect(unfolded.locator("details[open]")).to_be_visible()
    await expect(page.locator("details[open]")).to_have_count(1)


async def test_a_wrong_key_stays_outside(system: System, browser: Browser) -> None:
    async with visiting(browser, system.console) as someone:
        page = someone.page
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


@pytest.mark.parametrize(
    ("scopes", "offered"), [(["recommend"], ["Feed"]), (["train"], ["Live", "Models", "Streams"])]
)
async def test_what_the_scopes_forbid_is_not_offered(
    scopes: Sequence[Scope], offered: list[str], system: System, browser: Browser
) -> None:
    key = await key_with(system, scopes)
    async with visiting(browser, system.console) as someone:
        await someone.come_in(key)
        links = await someone.page.locator("nav a").all_inner_texts()
        assert [each for each in links if each in ("Feed", "Models")] == [
            each for each in offered if each in ("Feed", "Models")
        ]
        if scopes == ["recommend"]:
            await someone.page.wait_for_selector(".card")
            assert await someone.page.get_by_role("button", name="Open").count() == 0
            assert await someone.page.get_by_role("button", name="Forget me").count() == 0
        else:
            await someone.go("/models")
            await someone.page.wait_for_selector(".version")
            assert await someone.page.get_by_role("button", name="Activate").count() == 0


async def test_a_feed_says_that_its_key_was_revoked(system: System, browser: Browser) -> None:
    key = await key_with(system, ["recommend"])
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
    models = await page.context.new_page()
    await models.goto(f"{system.console}/models")
    await models.wait_for_selector(".version")
    system.server.end(signal.SIGTERM)
    for each in (page, models):
        await expect(each.locator(".pill.bad")).to_contain_text("does not answer")
        await expect(each.locator(".trouble-card").first).to_contain_text("headrace up")
    # What was shown stays, and what is done says what is broken.
    assert await models.locator(".version").count() > 0
    await page.locator(".card").first.get_by_role("button", name="Open").click()
    await expect(page.locator(".toast.bad")).to_contain_text("does not answer")
    late = {path: await page.context.new_page() for path in ("/feed", "/models", "/items")}
    for path, each in late.items():
        await each.goto(system.console + path)
        await expect(each.locator(".trouble-card").first).to_be_visible()

    system.server.start()
    for each in (page, models):
        await expect(each.locator(".pill.good")).to_be_visible()
    for each in (page, models, *late.values()):
        await expect(each.locator(".trouble-card")).to_have_count(0)
    await expect(late["/models"].get_by_label("Epochs")).to_be_visible()
    await expect(late["/items"].locator(".pager")).to_contain_text("1 to 20 of")
    await expect(late["/feed"].locator(".card").first).to_be_visible()
    await expect(late["/feed"].get_by_label("Category").get_by_role("option")).not_to_have_count(1)
    await act(page, "Open")


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_pages_are_for_everybody(colours: str, system: System, browser: Browser) -> None:
    """No page has what axe calls serious, and none is wider than its window."""
    async with visiting(browser, system.console, colours=colours) as someone:  # type: ignore[arg-type]
        await someone.page.goto(f"{system.console}/door")
        assert await serious(someone.page) == []
        await someone.come_in(KEY)
        for path in PATHS:
            await someone.go(path)
            await someone.page.wait_for_timeout(1_000)
            assert await serious(someone.page) == [], path
            for width in (375, 2_560):
                await someone.page.set_viewport_size({"width": width, "height": 900})
                # Pictures are drawn anew for the width, a moment later.
                await someone.page.wait_for_function(
                    "width => document.documentElement.scrollWidth <= width", arg=width
                )
                await expect(someone.page.get_by_label("Colours: ")).to_be_visible()
        assert someone.faults == []


async def test_the_keyboard_alone_is_enough(visitor: Visitor) -> None:
    page = visitor.page
    await page.wait_for_selector(".card")
    await page.evaluate("document.body.focus()")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the page"
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


async def test_the_door_leads_to_no_other_place(system: System) -> None:
    async with httpx.AsyncClient(base_url=system.console, trust_env=False) as client:
        for to, page in (
            ("/models", "/models"),
            ("//evil.example/feed", "/"),
            ("/\t/evil.example/feed", "/"),
            ("https://evil.example/feed", "/"),
            ("feed", "/"),
        ):
            answer = await client.post("/door", data={"key": KEY, "to": to})
            assert (answer.status_code, answer.headers["location"]) == (303, page), to
        none = await client.post("/door", data={"key": ""})
        assert (none.status_code, "and none was given" in none.text) == (401, True)
        wrong = await client.post("/door", data={"key": "wrong"})
        assert (wrong.status_code, "does not know this key" in wrong.text) == (401, True)


async def cards(page: Page) -> list[str]:
    """Return the items shown, in their order."""
    found: list[str] = await page.locator(".card").evaluate_all(
        "cards => cards.map((card) => card.dataset.item)"
    )
    return found


async def act(page: Page, name: str) -> float:
    """Do something with the first card; return the delay that is shown, in milliseconds."""
    delay = page.locator(".delay")
    before = await delay.inner_text()
    await page.locator(".card").first.get_by_role("button", name=name).click()
    await expect(delay).not_to_have_text(before)
    return float(await delay.get_attribute("data-ms") or "nan")


async def act_first(page: Page) -> None:
    """Open the first card, and wait until the session knows it."""
    await page.locator(".card").first.get_by_role("button", name="Open").click()
    await expect(page.locator(".interactions li")).not_to_have_count(0)
