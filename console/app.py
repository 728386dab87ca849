"""The console as one application: the door, the pages, and what every answer passes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from console.connection import Server, Watch
from console.door import Door, door_for
from console.pages import PAGES
from console.plain import no_such_page
from console.security import Secured
from console.sessions import Sessions
from console.shell import frame
from console.visit import Page, Visit

_LOOK_FOR_IDLE_S = 60.0
_RECONNECT_S = 30.0
"""A page is kept so long for a browser whose connection broke off."""


def create_app(url: str, *, cookie: str) -> FastAPI:
    """Return the application of a console for the server at `url`.

    NiceGUI has one application a process, so this is called once in it.
    """
    server = Server(url)
    watch, sessions = Watch(server), Sessions(time.time, cookie)
    door = Door(server, sessions, {page.path: page.needs for page in PAGES})
    app = FastAPI(openapi_url=None)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    app.add_api_route("/livez", _livez, methods=["GET"], response_model=None)
    app.add_api_route("/door", door.ask, methods=["GET"], response_model=None)
    app.add_api_route("/door", door.enter, methods=["POST"], response_model=None)
    app.add_api_route("/leave", door.leave, methods=["POST"], response_model=None)
    ui.add_head_html('<link rel="stylesheet" href="/static/console.css">', shared=True)
    for script in ("focus.js", "cut_off.js"):
        ui.add_head_html(f'<script src="/static/{script}" type="module"></script>', shared=True)
    _add_first(sessions)
    # NiceGUI's own page for it has a template, which the policy forbids.
    nicegui_app.add_exception_handler(404, no_such_page)
    nicegui_app.timer(_LOOK_FOR_IDLE_S, sessions.end_idle)
    for page in PAGES:
        _add(page, PAGES, server, watch, sessions)
    ui.run_with(
        app,
        title="Headrace",
        favicon=Path(__file__).parent / "static" / "mark.svg",
        dark=None,
        language="en-US",
        tailwind=False,
        reconnect_timeout=_RECONNECT_S,
        gzip_middleware_factory=None,
        show_welcome_message=False,
    )
    app.add_middleware(Secured)
    app.add_middleware(GZipMiddleware)
    return app


def _add(
    page: Page, pages: Sequence[Page], server: Server, watch: Watch, sessions: Sessions
) -> None:
    """Add a page, which needs a session whose key has its scope."""

    @ui.page(page.path, title=f"{page.title} · Headrace")
    async def show(request: Request) -> Response | None:
        session = sessions.find(request.cookies)
        if session is None:
            return RedirectResponse(door_for(page.path, request.url.query))
        if page.needs not in session.scopes:
            return RedirectResponse("/")
        client = ui.context.client
        visit = Visit(client, server, watch, session)
        # NiceGUI draws into a landmark of its own, within which a page's header would be.
        client.page_container.set_visibility(False)
        with client.layout, frame(visit, page, pages):
            page.build(visit)
        return None


def _add_first(sessions: Sessions) -> None:
    """Have `/` lead to the first page that the key opens."""

    @ui.page("/")
    async def first(request: Request) -> Response:
        session = sessions.find(request.cookies)
        if session is None:
            return RedirectResponse("/door")
        # Nobody has come in at the door whose key opens none.
        return RedirectResponse(next(page.path for page in PAGES if page.needs in session.scopes))


async def _livez() -> Response:
    return PlainTextResponse("ok\n")
