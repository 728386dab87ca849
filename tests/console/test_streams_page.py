"""Streams in a real browser: topics, a dead letter that is mended and arrives, a replay."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time

import httpx
import pytest
from browser import PATIENCE_MS, Visitor, violations, visiting
from kafka_tools import send_raw, sender
from parts import eventually
from playwright.async_api import Browser, Dialog, expect
from system import KEY, System, key_with, ring

from console.connection import TIMEOUT_S
from headrace.topics import Topics
from headrace_client import AsyncClient
from headrace_client.types import ReplayRequest, ResendRequest

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(280)]
expect.set_options(timeout=PATIENCE_MS)


async def test_topics_and_partitions_are_told(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.go("/streams")
    topics = page.get_by_role("region", name="Topics").last
    row = topics.get_by_role("row", name="ratings")
    await expect(row.locator("td").nth(5)).to_have_text("2")
    await expect(row.locator("td").nth(0)).to_have_text("0")
    # On a phone, too, without scrolling to it.
    await page.set_viewport_size({"width": 375, "height": 900})
    await expect(row.locator("td").nth(0)).to_be_in_viewport(ratio=1)
    await page.set_viewport_size({"width": 1_280, "height": 900})
    await expect(topics.get_by_role("row", name="erasures")).to_contain_text("not read by workers")
    await page.get_by_label("Topic", exact=True).select_option("ratings")
    partitions = page.get_by_role("region", name="Partitions").last
    await expect(partitions.locator("tbody tr")).to_have_count(2)
    await page.get_by_label("Topic", exact=True).select_option("erasures")
    await expect(partitions.locator("tbody tr").first).to_contain_text("not read by workers")
    # A link or a reload shows the same one.
    await expect(page).to_have_url(re.compile(r"/streams\?topic=erasures$"))
    await page.reload()
    await expect(page.get_by_label("Topic", exact=True)).to_have_value("erasures")
    await expect(partitions.locator("tbody tr").first).to_contain_text("not read by workers")
    await visitor.go("/streams?topic=none-such")
    await expect(page.get_by_label("Topic", exact=True)).to_have_value(re.compile("."))
    await expect(page).to_have_url(re.compile("/streams$"))


async def test_a_dead_letter_is_mended_and_arrives(system: System, visitor: Visitor) -> None:
    page = visitor.page
    event = {
        "event_id": "mended", "user_id": "mender", "item_id": ring(3), "rating": 4500,
        "timestamp": time.time() - 60, "context": {"note": "<img src=x onerror=alert(1)>"},
    }  # fmt: skip
    raw = json.dumps(event).encode()
    await asyncio.to_thread(send_raw, system.settings, "ratings", [(b"mender", raw)])
    await visitor.go("/streams")
    letter = page.locator(".letter", has_text="mended")
    await expect(letter).to_contain_text("rating: Expected `float` <= 1000.0")
    # What it holds is text wherever it is shown.
    await expect(letter.locator("pre")).to_contain_text("<img src=x onerror=alert(1)>")
    assert await page.locator(".panel img, dialog img").count() == 0
    await letter.get_by_role("button", name="Mend dead letter").click()
    dialog = page.get_by_role("dialog")
    send = dialog.get_by_role("button", name="Send again")
    await expect(dialog.locator(".verdict.bad")).to_contain_text("rating: Expected `float`")
    await expect(send).to_be_disabled()
    await dialog.get_by_label("Value").fill(json.dumps({**event, "rating": 4.5}))
    await expect(dialog.locator(".verdict.good")).to_contain_text("it goes to ratings, mender")
    assert await violations(page) == []
    bearer = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=system.settings.url, headers=bearer) as client:
        before = await _records(client, "ratings")
        await send.dblclick()
        await expect(page.locator(".toast.good")).to_contain_text("Sent again: ratings.")
        await expect(letter.locator(".badge")).to_have_text("sent again")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        assert await _records(client, "ratings") == before + 1

        async def arrived() -> bool:
            answer = await client.get("/v1/users/mender/interactions")
            return bool(answer.json()["interactions"].get(ring(3), {}).get("rating") == 4.5)

        await eventually(arrived, "the mended event counts")


async def test_a_letter_that_was_sent_again_is_not_sent_once_more_without_a_warning(
    system: System, visitor: Visitor
) -> None:
    page = visitor.page
    await asyncio.to_thread(send_raw, system.settings, "clicks", [(b"twice", b"sent twice")])
    event = {
        "event_id": "twice", "user_id": "twice", "item_id": ring(4), "timestamp": time.time() - 60,
    }  # fmt: skip
    await visitor.go("/streams")
    letter = page.locator(".letter", has_text="sent twice")
    await letter.get_by_role("button", name="Mend dead letter").dblclick()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_have_count(1)
    send = dialog.get_by_role("button", name="Send again")
    await dialog.get_by_label("Value").fill(json.dumps(event))
    await expect(send).to_be_enabled()
    await expect(dialog.get_by_role("alert")).to_be_hidden()

    # Somebody else is quicker.
    letter_id = await letter.get_attribute("data-letter")
    async with AsyncClient(system.settings.url, KEY) as api:
        await api.resend(str(letter_id), ResendRequest(value=json.dumps(event)))
    await send.click()
    await expect(dialog.get_by_role("alert")).to_contain_text("It was sent again already.")
    await expect(page.locator(".toast")).to_have_count(0)
    await expect(send).to_be_enabled()
    await send.click()
    await expect(page.locator(".toast.good")).to_contain_text("Sent again: clicks.")

    await expect(letter.locator(".badge")).to_have_text("sent again")
    await letter.get_by_role("button", name="Mend dead letter").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("It was sent again already.")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)


async def test_older_letters_are_reached_page_by_page(system: System, visitor: Visitor) -> None:
    page = visitor.page
    wrong = [(b"many-%d" % n, b"one of many") for n in range(60)]
    await asyncio.to_thread(send_raw, system.settings, "items", wrong)
    await visitor.go("/streams")
    letters = page.locator(".letter")
    newer, older = (
        page.get_by_role("button", name=f"{n} dead letters") for n in ("Newer", "Older")
    )
    await page.get_by_label("From topic").select_option("items")
    await expect(page.get_by_text("Page 1 of 2, 60 in all")).to_be_visible()
    await expect(letters).to_have_count(50)
    await expect(newer).to_be_disabled()
    first = [await each.get_attribute("data-letter") for each in await letters.all()]
    await older.dblclick()
    await expect(page.get_by_text("Page 2 of 2, 60 in all")).to_be_visible()
    await expect(letters).to_have_count(10)
    await expect(older).to_be_disabled()
    rest = [await each.get_attribute("data-letter") for each in await letters.all()]
    assert len({*first, *rest}) == 60
    await letters.last.get_by_role("button", name="Mend dead letter").click()
    await expect(page.get_by_label("Value")).to_have_value("one of many")
    await page.keyboard.press("Escape")
    # What is chosen anew is shown from its newest on.
    await newer.click()
    await expect(letters).to_have_count(50)
    await page.get_by_label("Reason holds").fill("no such reason")
    await expect(page.get_by_text("None is like that.")).to_be_visible()
    await expect(newer).to_be_hidden()


async def test_a_letter_is_closed_at_once_while_the_server_is_slow(
    system: System, visitor: Visitor
) -> None:
    page = visitor.page
    await asyncio.to_thread(send_raw, system.settings, "clicks", [(b"slow", b"not so fast")])
    await visitor.go("/streams")
    mend = page.locator(".letter", has_text="not so fast").get_by_role("button", name="Mend")
    await expect(mend).to_be_visible()
    dialog = page.get_by_role("dialog")
    os.kill(system.server.pid, signal.SIGSTOP)
    try:
        await mend.click()
        await dialog.get_by_role("button", name="Cancel").click()
        # Before the server is given up.
        await expect(dialog).to_have_count(0, timeout=500 * TIMEOUT_S)
    finally:
        os.kill(system.server.pid, signal.SIGCONT)


async def test_a_long_letter_is_cut_in_the_list_and_whole_in_its_dialog(
    system: System, visitor: Visitor
) -> None:
    page = visitor.page
    long = "long " * 1_000
    await asyncio.to_thread(send_raw, system.settings, "clicks", [(b"long", long.encode())])
    await visitor.go("/streams")
    letter = page.locator(".letter", has_text="long long")
    shown = await letter.locator("pre").inner_text()
    assert len(shown) < 600
    assert shown.endswith("…")
    await letter.get_by_role("button", name="Mend dead letter").click()
    await expect(page.get_by_label("Value")).to_have_value(long)
    await page.keyboard.press("Escape")


async def test_what_was_typed_into_a_letter_stays_until_it_is_sent(
    system: System, visitor: Visitor
) -> None:
    page, dialog = visitor.page, visitor.page.get_by_role("dialog")
    await asyncio.to_thread(send_raw, system.settings, "clicks", [(b"half", b"half mended")])
    await visitor.go("/streams")
    letter = page.locator(".letter", has_text="half mended")
    mend, value = letter.get_by_role("button", name="Mend"), page.get_by_label("Value")
    await mend.click()
    as_received = dialog.get_by_role("button", name="As received")
    await expect(as_received).to_be_hidden()
    await value.fill('{"event_id": "half"')
    await expect(as_received).to_be_visible()
    for close in (lambda: page.keyboard.press("Escape"), dialog.get_by_text("Cancel").click):
        await close()
        await expect(dialog).to_have_count(0)
        await mend.click()
        # It has a value before it is open, and Escape does nothing until then.
        await expect(dialog).to_be_visible()
        await expect(value).to_have_value('{"event_id": "half"')
    # The browser asks before the page is left with it.
    asked: list[str] = []

    async def stay(question: Dialog) -> None:
        asked.append(question.type)
        await question.dismiss()

    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    page.once("dialog", stay)
    await page.get_by_role("link", name="Models").click()
    assert asked == ["beforeunload"]
    await mend.click()
    await as_received.click()
    await expect(value).to_have_value("half mended")
    await expect(as_received).to_be_hidden()
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await page.get_by_role("link", name="Models").click()
    await expect(page).to_have_url(re.compile("/models$"))


async def test_a_letter_of_nothing_from_beyond_all_time_is_told(
    system: System, visitor: Visitor
) -> None:
    def send() -> None:
        with sender(system.settings) as producer:
            name = Topics(system.settings).name("purchases")
            producer.send(name, key=b"", value=b"", timestamp_ms=9_000_000_000_000_000)

    await asyncio.to_thread(send)
    page = visitor.page
    await visitor.go("/streams")
    letter = page.locator(".letter", has_text="from purchases")
    await expect(letter.locator("pre")).to_have_text("no bytes")
    newest = page.get_by_role("region", name="Topics").last.get_by_role("row", name="purchases")
    await expect(newest).to_contain_text("which is no time")
    assert await violations(page) == []
    assert visitor.faults == []


async def test_a_letter_is_shown_as_it_is_checked(system: System, visitor: Visitor) -> None:
    """A name that comes twice comes twice in the box, too."""
    page = visitor.page
    twice = b'{"event_id":"of-two-ratings","rating":9999,"rating":4.10}'
    await asyncio.to_thread(send_raw, system.settings, "ratings", [(b"twice", twice)])
    await visitor.go("/streams")
    letter = page.locator(".letter", has_text="of-two-ratings")
    await letter.get_by_role("button", name="Mend dead letter").click()
    shown = '{\n  "event_id": "of-two-ratings",\n  "rating": 9999,\n  "rating": 4.10\n}'
    await expect(page.get_by_label("Value")).to_have_value(shown)
    await page.keyboard.press("Escape")


async def test_a_rate_that_is_none_starts_nothing(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.go("/streams")
    await page.get_by_label("Records a second").fill("slowly")
    await expect(page.get_by_text("It must be a number from 0 to 1,000,000")).to_be_visible()
    await expect(page.get_by_role("button", name="Dry run")).to_be_disabled()
    await page.get_by_label("Records a second").fill("50")
    await expect(page.get_by_role("button", name="Dry run")).to_be_enabled()


async def test_a_dry_run_a_replay_and_its_promotion(system: System, visitor: Visitor) -> None:
    page = visitor.page
    await visitor.go("/streams")
    shadow = f"{system.settings.namespace}-shadow"
    start = page.get_by_role("button", name="Replay …")
    await page.get_by_label("Namespace").fill(shadow)
    await expect(start).to_be_disabled()
    await page.get_by_label("From", exact=True).fill("yesterday")
    await page.get_by_role("button", name="Dry run").click()
    await expect(page.locator(".verdict.bad")).to_contain_text("from: Expected beginning or a time")
    await page.get_by_label("From", exact=True).fill("beginning")
    asked = await page.locator(".replay").count()
    await page.get_by_role("button", name="Dry run").dblclick()
    await expect(page.locator(".verdict.good")).to_contain_text("events to apply")
    await expect(page.locator(".replay").first).to_contain_text("nothing was written")
    await expect(page.locator(".replay")).to_have_count(asked + 1)

    await start.dblclick()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(f"replayed into {shadow}.")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_have_count(0)
    await page.get_by_label("Delete a shadow that is there").check()
    await page.get_by_role("button", name="Dry run").click()
    await start.click()
    await expect(dialog).to_contain_text("once what an earlier replay left there is deleted")
    await expect(dialog).to_contain_text("What is deleted cannot be brought back.")
    await dialog.get_by_role("button", name="Replay", exact=True).click()
    row = page.locator(".replay").first
    await expect(row.locator(".task-kind")).to_have_text(f"into {shadow}")
    await expect(row.locator("[data-status=SUCCEEDED]")).to_be_visible()
    await expect(row).to_contain_text("state hash")
    await row.get_by_role("button", name="Promote").click()
    await page.get_by_role("button", name="Promote", exact=True).click()
    await expect(row.locator(".task-kind")).to_have_text(f"promotion of {shadow}")
    await expect(row).to_contain_text("is the live state")
    # What became the live state is no shadow any more.
    await expect(page.get_by_role("button", name="Promote replay")).to_have_count(0)
    # Workers end when the state is exchanged; whoever supervises them starts them again.
    await asyncio.to_thread(system.worker.wait)
    system.worker.start()


async def test_a_replay_is_cancelled_and_gone_on_with(system: System, visitor: Visitor) -> None:
    page = visitor.page
    await visitor.go("/streams")
    shadow = f"{system.settings.namespace}-slowly"
    await page.get_by_label("Namespace").fill(shadow)
    # Each partition number is some seconds of waiting.
    await page.get_by_label("Records a second").fill("20")
    await page.get_by_role("button", name="Dry run").click()
    await page.get_by_role("button", name="Replay …").click()
    await page.get_by_role("dialog").get_by_role("button", name="Replay", exact=True).click()
    row = page.locator(".replay").first
    await expect(row.locator(".task-kind")).to_have_text(f"into {shadow}")
    await expect(row.locator("[data-status=RUNNING]")).to_be_visible()
    await row.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("dialog")).to_contain_text("What was applied stays.")
    await page.get_by_role("button", name="Cancel the replay").click()
    await expect(row.locator("[data-status=CANCELLED]")).to_be_visible()
    await row.get_by_role("button", name="Resume").click()
    await page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    await expect(row.locator("[data-status=SUCCEEDED]")).to_be_visible()
    async with AsyncClient(system.settings.url, KEY) as api:
        replay = (await api.replays()).replays[0]
        assert (replay.into, replay.records) == (shadow, replay.total)
        # What was applied before it was cancelled was applied and counted once.
        assert all("known" not in outcomes for outcomes in replay.counts.values())

        # The same once more would be refused: a dry run says so.
        start, dry_run = (page.get_by_role("button", name=each) for each in ("Replay …", "Dry run"))
        await expect(start).to_be_disabled()
        await dry_run.click()
        told = f"{shadow} holds a replay that is complete"
        await expect(page.locator(".verdict.bad")).to_contain_text(told)
        await expect(start).to_be_disabled()

        # The trainer runs one at a time, so a promotion waits behind a slow one.
        slow = await api.start_replay(ReplayRequest(into=f"{shadow}-2", rate=1.0))
        promote = page.get_by_role("button", name=f"Promote replay {replay.id}")
        await promote.click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Promote").click()
        await expect(row.locator(".task-kind")).to_have_text(f"promotion of {shadow}")
        await row.get_by_role("button", name="Cancel").click()
        await expect(dialog).to_contain_text("It has not begun; the live state stays as it is.")
        await dialog.get_by_role("button", name="Cancel the promotion").click()
        await row.get_by_role("button", name="Resume").click()
        # What is asked is what a promotion asks: the live state would be replaced.
        await expect(dialog).to_contain_text(f"{shadow} becomes the live state, in place of all")
        await expect(dialog).to_contain_text("Once it runs it cannot be cancelled.")
        await expect(dialog.locator(".danger")).to_have_text("Resume the promotion")
        await dialog.get_by_role("button", name="Cancel", exact=True).click()
        # It has changed nothing, so the shadow still is what the replay made of it.
        await expect(promote).to_be_visible()
        await api.cancel_replay(slow.id)


async def test_who_may_only_train_sees_no_dead_letter(system: System, browser: Browser) -> None:
    key = await key_with(system, ["train"])
    async with visiting(browser, system.console) as someone:
        await someone.come_in(key, "/streams")
        await expect(someone.page.get_by_role("row", name="ratings")).to_be_visible()
        assert await someone.page.get_by_role("button", name="Dry run").count() == 0
        assert await someone.page.get_by_text("Dead letters", exact=True).count() == 0


async def _records(client: httpx.AsyncClient, topic: str) -> int:
    """Return how many records of a topic there have been."""
    topics = (await client.get("/v1/topics")).json()["topics"]
    [found] = [each for each in topics if each["topic"] == topic]
    return sum(partition["end"] for partition in found["partitions"])
