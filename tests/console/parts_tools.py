"""What stands in for a page and a server where no browser looks."""

from __future__ import annotations

import time

from nicegui import ElementFilter, ui

from console.connection import Server, Watch
from console.sessions import Sessions
from console.visit import Visit
from console.widgets.html import Tag


def opened_visit() -> Visit:
    """Return a visit of the page that is being built, to a server that is away."""
    server, sessions = Server("http://127.0.0.1:9"), Sessions(time.time, "cookie")
    opened = sessions.find({"cookie": sessions.open(key="", name="", scopes=frozenset())})
    assert opened is not None
    visit = Visit(ui.context.client, server, Watch(server), opened)
    visit.draw_troubles()
    visit.draw_layers()
    return visit


def buttons(words: str) -> list[Tag]:
    """Return the buttons that say this."""
    return [each for each in ElementFilter(kind=Tag) if (each.tag, each.text) == ("button", words)]


async def can_click(words: str) -> bool:
    return any(not each.is_disabled for each in buttons(words))


async def is_said(words: str) -> bool:
    return any(words in each.text for each in ElementFilter(kind=Tag))


AWAY = "Look at it with `headrace status`, start it with `headrace up`."
