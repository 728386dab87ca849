"""100 open feeds at once, and what the console's memory does over them; `make chaos` runs it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest
from browser import running_browser
from parts import eventually
from playwright.async_api import Page
from system import KEY, System, running_system

PAGES, AT_ONCE, ROUNDS = 100, 5, 2
ROOM = 64 << 20
"""Bytes by which the console may be larger once as many pages are open for the second time."""


@pytest.mark.timeout(1_500)
async def test_a_hundred_open_pages(broker: str, redis_url: str, tmp_path: Path) -> None:
    with running_system(broker, redis_url, tmp_path) as system:
        process = psutil.Process(system.console_part.pid)
        async with running_browser() as browser:
            context = await browser.new_context()
            door = await context.new_page()
            await door.goto(f"{system.console}/door")
            await door.fill("#key", KEY)
            await door.get_by_role("button", name="Come in").click()
            await door.wait_for_selector(".card")
            await door.close()
            sizes = []
            for _ in range(ROUNDS):
                places = asyncio.Semaphore(AT_ONCE)

                async def open_one(places: asyncio.Semaphore = places) -> Page:
                    async with places:
                        page = await context.new_page()
                        page.set_default_timeout(300_000)
                        await page.goto(f"{system.console}/feed")
                        await page.wait_for_selector(".card")
                        return page

                pages = await asyncio.gather(*(open_one() for _ in range(PAGES)))
                for page in (pages[0], pages[-1]):
                    await page.locator(".card").first.get_by_role("button", name="Open").click()
                    await page.wait_for_selector(".delay[data-ms]")
                sizes.append(process.memory_info().rss)
                await asyncio.gather(*(page.close() for page in pages))
                await eventually(lambda: _no_streams(system), "the streams are closed")
            print(f"with {PAGES} pages: {[size >> 20 for size in sizes]} MB")
            assert sizes[-1] - sizes[0] < ROOM


async def _no_streams(system: System) -> bool:
    import httpx

    async with httpx.AsyncClient(base_url=system.settings.url, trust_env=False) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return any(line.startswith("headrace_open_streams") and line.endswith(" 0.0") for line in lines)
