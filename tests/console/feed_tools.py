"""What a visitor does with the feed's cards."""

from __future__ import annotations

from playwright.async_api import Page, expect


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
