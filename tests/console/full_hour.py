"""Every page open for an hour, and what the console's memory does meanwhile; `make soak` runs it.

`SOAK_MINUTES` says for how long instead.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path

import psutil
import pytest
from browser import running_browser, visiting
from playwright.async_api import Page
from system import KEY, System, ring, running_system

from console.pages import PAGES
from headrace_client import AsyncClient, click

MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
EVERY_S = 2.0
"""Seconds between two events of others, which keep what the pages show in motion."""
ACT_EVERY = 5
"""Events of others between two clicks on the feed's cards."""
ROOM = 8 << 20
"""Bytes by which the last sixth may exceed the second, in the median: the first fills caches."""


@pytest.mark.timeout(MINUTES * 60 + 600)
async def test_an_hour_with_every_page_open(broker: str, redis_url: str, tmp_path: Path) -> None:
    with running_system(broker, redis_url, tmp_path) as system:
        async with running_browser() as browser, visiting(browser, system.console) as visitor:
            await visitor.come_in(KEY)
            feed = visitor.page
            for other in PAGES[1:]:
                page = await feed.context.new_page()
                await page.goto(system.console + other.path)
                await page.wait_for_selector("h1.page-title")
            sizes = await _watch(system, feed)
    sixth = len(sizes) // 6
    early, late = statistics.median(sizes[sixth : 2 * sixth]), statistics.median(sizes[-sixth:])
    print(
        f"{MINUTES:.0f} minutes with {len(PAGES)} pages open: {sizes[0] >> 20} MB at first, "
        f"{early / 2**20:.1f} in the second sixth, {late / 2**20:.1f} in the last, "
        f"{max(sizes) >> 20} at most"
    )
    assert late - early < ROOM


async def _watch(system: System, feed: Page) -> list[int]:
    """Keep the pages in motion for as long; return the console's resident bytes along the way."""
    process, sizes = psutil.Process(system.console_part.pid), []
    ends = time.monotonic() + MINUTES * 60
    async with AsyncClient(system.settings.url, system.settings.api_key) as client:
        while time.monotonic() < ends:
            number = len(sizes)
            await client.send_event(click(f"passer-{number % 50}", ring(number)))
            if number % ACT_EVERY == 0:
                await feed.locator(".card").first.get_by_role("button", name="Open").click()
            sizes.append(process.memory_info().rss)
            await asyncio.sleep(EVERY_S)
    return sizes
