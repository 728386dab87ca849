"""Takes the pictures in `docs/` from a demo that runs: `make demo -- --stay`.

`python tools/screenshots.py build/demo/stack` reads the demo's address and key there, acts as a
visitor of its feed, and looks at each page with the system's Chromium.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from headrace.local.console import address_of
from headrace.local.folder import DataFolder

DOCS = Path(__file__).resolve().parents[1] / "docs"
WIDTH, HEIGHT = 1280, 860
USER = "42"
"""Of MovieLens: one with a session of some length."""
SOUGHT, FOUND = "story", "Toy Story"
"""Words that several films have in their titles, and one of these."""


def main(data: Path) -> None:
    """Take them all. Ends with a line in words when there is no demo to look at."""
    state = DataFolder(data).read()
    console = address_of(state.parts) if state is not None else None
    if state is None or console is None:
        sys.exit(f"No console runs on {data}; start one with `make demo -- --stay`.")
    browser_at = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_at is None:
        sys.exit("There is no Chromium (on Debian and Ubuntu: apt install chromium).")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_at, args=sandbox)
        for colours in ("light", "dark"):
            page = browser.new_page(
                viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=colours
            )
            if colours == "light":
                _report(page, data.parent / "report.html")
            page.goto(f"{console}/door")
            page.fill("#key", state.settings.api_key)
            page.get_by_role("button", name="Come in").click()
            if colours == "light":
                # First: with an act of today the last month is another than that of the data.
                _items(page, console)
                _feed(page, console)
                _page(page, console, "live", "[aria-label^='HR@10'] canvas")
                _page(page, console, "models", ".version .figure .value:not(.none)", whole=True)
                _page(page, console, "streams", ".table td", whole=True)
            else:
                _feed(page, console, "-dark")
        browser.close()


def _report(page: Page, report: Path) -> None:
    """Show the report that the demo has written, down to its first chart."""
    page.set_viewport_size({"width": 1_000, "height": 1_425})
    page.goto(report.resolve().as_uri())
    _shoot(page, "demo")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


def _feed(page: Page, console: str, suffix: str = "") -> None:
    """Be a user, rate two films, and show the list that has answered."""
    page.goto(f"{console}/feed")
    page.wait_for_selector(".card")
    page.get_by_label("User", exact=True).fill(USER)
    page.get_by_role("button", name="Be this user").click()
    page.wait_for_selector(".interactions li")
    for stars in (5, 4):
        page.wait_for_timeout(1_000)
        before = page.locator(".delay").inner_text()
        page.locator(".card").nth(1).get_by_role("button", name=f"Rate {stars} of 5").click()
        page.wait_for_function(
            "before => document.querySelector('.delay').innerText !== before", arg=before
        )
    page.wait_for_selector(".why")
    page.mouse.move(0, 0)
    _shoot(page, f"console-feed{suffix}")


def _page(page: Page, console: str, name: str, drawn: str, *, whole: bool = False) -> None:
    page.goto(f"{console}/{name}")
    page.wait_for_selector(drawn)
    _shoot(page, f"console-{name}", whole=whole)


def _items(page: Page, console: str) -> None:
    """Choose an item, and show it beside the list that it was found in, with what is like it."""
    page.goto(f"{console}/items")
    page.get_by_label("Search").fill(SOUGHT)
    page.locator(".found-item", has_text=FOUND).first.click()
    page.get_by_role("region", name="Like it").locator(".found-item").first.wait_for()
    page.get_by_role("img", name="Map of").wait_for()
    _shoot(page, "console-items", whole=True)


def _shoot(page: Page, name: str, *, whole: bool = False) -> None:
    """Take a picture of the window, or of the `whole` page, once all of it is there."""
    expect(page.get_by_text("Loading …")).to_have_count(0)
    page.wait_for_timeout(1_000)
    page.screenshot(path=DOCS / f"{name}.png", full_page=whole)
    print(f"docs/{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
