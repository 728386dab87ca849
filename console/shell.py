"""What stands round every page: where one is, how the server is, light or dark, the way out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nicegui.elements.dark_mode import DarkMode

from console.connection import Health
from console.sessions import THEMES
from console.visit import Page, Visit
from console.widgets.html import Tag, box, button, link, text

_THEME = {"auto": None, "light": False, "dark": True}
_NAMES = {"auto": "As the system", "light": "Light", "dark": "Dark"}


@contextmanager
def frame(visit: Visit, here: Page, pages: Sequence[Page]) -> Iterator[None]:
    """Draw the frame; what is drawn within the block is the page."""
    link("Skip to the page", "#main", "skip")
    with Tag("header", "top"):
        with link("", pages[0].path, "brand", aria_label="Headrace"):
            Tag("img", src="/static/mark.svg", alt="", width=22, height=22)
            text("Headrace")
        with Tag("nav", "nav", aria_label="Pages"):
            for page in pages:
                current = "page" if page is here else None
                if visit.allows(page.needs):
                    link(page.title, page.path, aria_current=current)
        with box("top-end"):
            _server_pill(visit)
            _theme_button(visit)
            with Tag("form", action="/leave", method="post"):
                Tag("button", "button quiet small", "Leave", type="submit")
    with Tag("main", "page", id="main", tabindex="-1"):
        text(here.title, "page-title", tag="h1")
        visit.draw_troubles()
        yield
    visit.draw_layers()


def _server_pill(visit: Visit) -> None:
    with Tag("p", "pill warn cut-off", role="status"):
        Tag("span", "dot", aria_hidden="true")
        text("Not connected")
    pill = Tag("p", "pill", role="status")
    with pill:
        Tag("span", "dot", aria_hidden="true")
        words = text("")

    def show(health: Health) -> None:
        known = "good" if health.ready else "bad"
        pill.classes(replace=f"pill {'warn' if health.answers is None else known}")
        words.set_text(health.words)

    async def listen() -> None:
        visit.at_end(visit.watch.listen(show))
        await asyncio.sleep(0)

    show(visit.watch.health)
    visit.run(listen())


def _theme_button(visit: Visit) -> None:
    session = visit.session
    mode = DarkMode(value=_THEME[session.theme])

    def name() -> str:
        return f"Colours: {_NAMES[session.theme].lower()}. Change them"

    def turn() -> None:
        session.theme = THEMES[(THEMES.index(session.theme) + 1) % len(THEMES)]
        mode.set_value(_THEME[session.theme])
        made.set_text(_NAMES[session.theme]).attribute("aria-label", name())

    made = button(_NAMES[session.theme], turn, kind="quiet small theme", label=name())
