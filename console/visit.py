"""One open page: who looks at it, its connection to the server, and what runs for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nicegui import background_tasks
from nicegui.client import Client

from console.calls import CallLog
from console.connection import Server, Watch
from console.errors import Trouble, after_deed, is_final, trouble_of, trouble_of_fault
from console.sessions import Session
from console.widgets.html import Tag, box, button, text
from console.widgets.troubles import Troubles
from headrace_client import AsyncClient, HeadraceError

_TOAST_S = 6.0
_ALERTS = 4
"""That stand there at once."""
_ANEW = "Load the page again. The console's log says more."
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """A page of the console."""

    path: str
    title: str
    needs: str
    """The scope without which it is not offered."""
    build: Callable[[Visit], None]
    """Draws the page; what asks the server goes through `Visit.run`."""


class Visit:
    """An open page. Its client and its tasks end with it."""

    def __init__(self, client: Client, server: Server, watch: Watch, session: Session) -> None:
        self.server = server
        self.watch = watch
        self.session = session
        self.calls = CallLog()
        self.api: AsyncClient = server.client(session.key, self.calls)
        self.layer: Tag
        """Where dialogs are drawn."""
        self.is_asked = False
        """Whether a question is open; there is one at a time."""
        self._client = client
        self._toasts: Tag
        self._alerts: Tag
        self._troubles: Troubles
        self._faults: set[Trouble] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._endings: list[Callable[[], object]] = []
        self._has_ended = False
        client.on_delete(self._end)
        session.page_opened(self._go_out)

    def draw_troubles(self) -> None:
        """Draw the place for what is broken and belongs to no panel."""
        self._troubles = Troubles()

    def draw_layers(self) -> None:
        """Draw the places for dialogs and messages."""
        self.layer = box("layer")
        with box("toasts"):
            self._alerts = Tag("div", "", role="alert")
            self._toasts = Tag("div", "", role="status", aria_live="polite")

    @property
    def query(self) -> Mapping[str, str]:
        """What stood behind the `?` of the page's address when it was opened."""
        return self._client.request.query_params

    @property
    def tab(self) -> str:
        """The browser's name for its tab, which outlives a page; empty until it shows the page."""
        return self._client.tab_id or ""

    def allows(self, scope: str) -> bool:
        """Return whether the key has the scope; what it has not is not offered."""
        return scope in self.session.scopes

    def trouble(self, error: Exception) -> Trouble:
        """Return what a failed call means, or another fault, which is logged, once a page."""
        if isinstance(error, HeadraceError):
            return trouble_of(error, self.server.url)
        trouble = trouble_of_fault(error)
        if trouble not in self._faults:
            self._faults.add(trouble)
            _log.error("A part of a page has failed.", exc_info=error)
        return trouble

    def failure(self, error: HeadraceError, then: str = "") -> Trouble:
        """Return what a failed call means that nothing repeats.

        `then`: what is to be done when it is for now that it fails; by default, what is after a
        call that was to change something.
        """
        return trouble_of(error, self.server.url, then or after_deed(error))

    def toast(self, words: str, kind: str = "") -> None:
        """Say something for some seconds, of what is bad until it is closed.

        Screen readers say it, too, and what is bad at once.
        """
        if kind == "bad":
            self._alert(words)
            return
        with self._toasts:
            shown = text(words, f"toast {kind}".strip(), tag="p")

        async def fade() -> None:
            await asyncio.sleep(_TOAST_S)
            shown.delete()

        self.run(fade())

    def _alert(self, words: str) -> None:
        """Say what went wrong, until it is closed; the oldest one makes way for too many."""
        with self._alerts, box("toast bad") as shown:
            text(words, tag="p")
            button("", shown.delete, kind="small quiet close", label="Close this message")
        alerts = self._alerts.default_slot.children
        for old in alerts[:-_ALERTS]:
            old.delete()

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something beside the page once a browser shows it, for as long as it does.

        What fails in it is told above the page.
        """

        async def shown() -> Any:
            try:
                await self._client.connected()
                with self._client:
                    part = getattr(work, "__qualname__", "")
                    return await self._told(part, work, again=False)
            finally:
                work.close()

        task = background_tasks.create(shown(), name=f"for a page: {work!r:.80}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def every(self, seconds: float, look: Callable[[], Awaitable[object]]) -> None:
        """Do something now, and again that long after each end of it.

        What fails in it is told above the page until it works again.
        """

        async def again_and_again() -> None:
            while True:
                await self._told(look, look(), again=True)
                await asyncio.sleep(seconds)

        self.run(again_and_again())

    def insist(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        """Do something now, and again that long after each failed call, until it is done."""

        async def is_done() -> bool:
            try:
                await work()
            except HeadraceError as error:
                return is_final(error)
            return True

        async def until_done() -> None:
            while True:
                if await self._told(work, is_done(), again=True):
                    return
                await asyncio.sleep(seconds)

        self.run(until_done())

    def at_end(self, ending: Callable[[], object]) -> Callable[[], None]:
        """Call this when the page is closed, at once if it is; return what takes that back."""
        self._endings.append(ending)
        if self._has_ended:
            ending()
        return lambda: self._endings.remove(ending)

    async def _told(self, part: object, work: Awaitable[Any], *, again: bool) -> Any:
        """Return what comes of work; None if it fails, which is told until the part works again.

        `again`: it is tried again by itself.
        """
        try:
            done = await work
        except Exception as error:  # noqa: BLE001 - it is logged, and told on the page
            trouble = self.trouble(error)
            self._troubles.tell(part, trouble if again else replace(trouble, cure=_ANEW))
            return None
        self._troubles.tell(part, None)
        return done

    def _go_out(self) -> None:
        self._client.open("/door")
        # Whatever the browser makes of that, the key does nothing more here.
        background_tasks.create(self._end(), name="a page whose session is over")

    async def _end(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self.session.page_closed(self._go_out)
        for ending in tuple(self._endings):
            ending()
        for task in tuple(self._tasks):
            task.cancel()
        await self.api.close()
