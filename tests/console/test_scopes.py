"""What each page offers to a key, by its scopes; versions to go back to are there by then."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import pytest
from browser import PATIENCE_MS, visiting
from kafka_tools import send_raw
from playwright.async_api import Browser, expect
from system import KEY, System, key_with, train_once_more

from console.pages import PAGES
from headrace.keys import Scope
from headrace_client import AsyncClient

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(280)]
expect.set_options(timeout=PATIENCE_MS)


OFFERED = {
    "/feed": (".card", {"Open": "events", "Rate 4 of 5": "events", "Buy": "events",
                        "Forget me": "erase"}),
    "/live": ("tbody tr", {}),
    "/models": (".version + .version", {
        "Train …": "train", "Activate": "admin", "Pin": "admin", "Delete": "admin",
        "Roll back": "admin",
    }),
    "/streams": ("tbody tr", {"Dry run": "admin", "Replay …": "admin", "Mend dead": "admin"}),
    "/items": (".found-item", {"New item": "admin"}),
}  # fmt: skip
"""By page, what is there once it is drawn, and what it offers with which scope."""


@pytest.mark.parametrize(
    ("scopes", "offered"),
    [
        (["recommend"], ["Feed", "Items"]),
        (["train"], ["Live", "Models", "Streams"]),
        (["recommend", "events", "erase", "train", "admin"], [page.title for page in PAGES]),
    ],
)
async def test_what_the_scopes_forbid_is_not_offered(
    scopes: Sequence[Scope], offered: list[str], system: System, browser: Browser
) -> None:
    # What is offered with a version to go back to, and with a dead letter.
    async with AsyncClient(system.settings.url, KEY) as api:
        if len((await api.versions(system.settings.model_id)).versions) < 2:
            await asyncio.to_thread(train_once_more, system.settings)
        [newest, older, *_] = (await api.versions(system.settings.model_id)).versions
        for each in (older, newest):
            await api.activate(system.settings.model_id, each["version"])
    await asyncio.to_thread(send_raw, system.settings, "clicks", [(b"scopes", b"no event")])
    key = await key_with(system, scopes)
    async with visiting(browser, system.console) as someone:
        await someone.come_in(key)
        page = someone.page
        assert await page.locator("nav a").all_inner_texts() == offered
        for each in PAGES:
            await someone.go(each.path)
            if each.title not in offered:
                # The first page that the key opens is there instead.
                await expect(page.locator("h1")).to_have_text(offered[0])
                continue
            drawn, acts = OFFERED[each.path]
            await page.wait_for_selector(drawn)
            if each.path == "/feed":
                # Above the list, and where the session will be.
                for may_act, words in (
                    (True, "Open, rate or buy something"),
                    (False, re.compile("^The list changes when|An event of this user stands")),
                ):
                    invited = page.get_by_text(words)
                    is_said = may_act == ("events" in scopes)
                    await expect(invited).to_have_count(2 if is_said else 0)
            for name, scope in acts.items():
                whole = re.compile(rf"^{re.escape(name)}(\W|$)")
                there = page.get_by_role("button", name=whole)
                if scope in scopes:
                    await expect(there.first).to_be_visible()
                else:
                    assert await there.count() == 0, (each.path, name)
        assert someone.faults == []
