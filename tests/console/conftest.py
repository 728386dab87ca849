"""One system for all tests, and one browser for those of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from browser import Visitor, running_browser, visiting
from playwright.async_api import Browser
from system import KEY, System, running_system


@pytest.fixture(scope="session")
def system(
    lasting_broker: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """All of Headrace and a console."""
    with running_system(lasting_broker, redis_url, tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Chromium."""
    async with running_browser() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(system: System, browser: Browser) -> AsyncIterator[Visitor]:
    """Somebody with a key that opens everything, at the first page; nothing went wrong for them."""
    async with visiting(browser, system.console) as someone:
        await someone.come_in(KEY)
        yield someone
        assert someone.faults == []
