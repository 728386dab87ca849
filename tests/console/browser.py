"""A real browser: the system's Chromium, who looks with it, and what must not go wrong there."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from parts import eventually
from playwright.async_api import Browser, Page, async_playwright

PATIENCE_MS = 60_000.0
"""Only there against hanging: nothing is measured by it."""
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """Return where the system's Chromium is."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.fail("There is no Chromium (on Debian and Ubuntu: apt install chromium).")
    return found


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Run it."""
    # Its sandbox refuses to run as root, as CI does; a graphics card played by software is slow.
    arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        await browser.close()


class Visitor:
    """A browser of one person: cookies of its own, and a note of whatever is not as it must be."""

    def __init__(self, url: str, page: Page) -> None:
        self.url = url
        self.page = page
        self.faults: list[str] = []
        """Errors of scripts, violations of the policy, requests to other hosts."""
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("console", lambda message: self._read(message.type, message.text))
        page.on("request", lambda request: self._check_host(request.url))

    async def come_in(self, key: str, path: str = "/") -> None:
        """Give the key at the door of a page."""
        await self.page.goto(f"{self.url}/door?to={path}")
        await self.page.fill("#key", key)
        await self.page.get_by_role("button", name="Come in").click()
        await self.shown()

    async def go(self, path: str) -> None:
        """Open a page."""
        await self.page.goto(self.url + path)
        await self.shown()

    async def shown(self) -> None:
        """Wait until the page is drawn and connected."""
        await self.page.wait_for_selector("h1.page-title")
        # Not by `wait_for_function`, which evaluates text within the page: the policy forbids it.
        await eventually(
            lambda: self.page.evaluate("window.did_handshake === true"), "the page is connected"
        )

    def _read(self, kind: str, said: str) -> None:
        if "Content Security Policy" in said:
            self.faults.append(f"policy: {said}")
        elif kind == "error" and "Failed to load resource" not in said and "WebSocket" not in said:
            self.faults.append(f"console: {said}")

    def _check_host(self, url: str) -> None:
        if urlsplit(url).scheme in ("http", "https", "ws") and not url.startswith(self.url):
            self.faults.append(f"a request to {url}")


@asynccontextmanager
async def visiting(
    browser: Browser,
    url: str,
    *,
    colours: Literal["light", "dark"] = "light",
    width: int = 1280,
) -> AsyncIterator[Visitor]:
    """Give a browser of one person's own."""
    context = await browser.new_context(
        color_scheme=colours, reduced_motion="reduce", viewport={"width": width, "height": 900}
    )
    try:
        yield Visitor(url, await context.new_page())
    finally:
        await context.close()


async def violations(page: Page) -> list[str]:
    """Return what axe-core finds, but what it calls minor."""
    # To read style sheets axe would write styles into the page, which the policy forbids.
    found = await Axe().run(page, options={"resultTypes": ["violations"], "preload": False})
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in found.response["violations"]
        if each["impact"] != "minor"
        for node in each["nodes"][:3]
    ]
