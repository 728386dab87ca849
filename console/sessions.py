"""Who has come in at the door: an API key by browser session, in this process's memory alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Theme = Literal["auto", "light", "dark"]
THEMES: tuple[Theme, ...] = ("auto", "light", "dark")
IDLE_S = 12 * 3600.0
"""Seconds without an open page after which a session is over: longer than a working day."""
_MOST_TABS = 100
"""Of a session, whose visitors are kept."""
_MOST = 10_000
"""Sessions kept; the one that was idle longest goes first, those with open pages last."""


@dataclass
class Session:
    """One browser's stay: its key, and what that opens. It is written nowhere."""

    key: str = field(repr=False)
    name: str
    """Of the key, as the server knows it."""
    scopes: frozenset[str]
    used_at: float
    """Unix seconds; with a page open it is in use for as long as that stays so."""
    clock: Callable[[], float] = field(repr=False)
    theme: Theme = "auto"
    visitors: dict[str, str] = field(default_factory=dict)
    """By tab of the browser, whose feed it shows; the newest last."""
    endings: set[Callable[[], None]] = field(default_factory=set, repr=False)
    """Of the open pages, each told when the session ends before it."""

    def page_opened(self, ending: Callable[[], None]) -> None:
        """Be in use until that page is closed; `ending` is called when the session ends first."""
        self.endings.add(ending)

    def page_closed(self, ending: Callable[[], None]) -> None:
        """Be idle from now on, if it was the last one."""
        self.endings.discard(ending)
        self.used_at = self.clock()

    def note_visitor(self, tab: str, user_id: str) -> None:
        """Keep whose feed a tab shows, so that the page loaded again shows it, too."""
        self.visitors.pop(tab, None)
        self.visitors[tab] = user_id
        if len(self.visitors) > _MOST_TABS:
            del self.visitors[next(iter(self.visitors))]


class Sessions:
    """The sessions by the random id that the browser's cookie holds until the browser is closed."""

    def __init__(self, clock: Callable[[], float], cookie: str) -> None:
        """`cookie`: its name, the console's own where two share a host."""
        self.cookie = cookie
        self._clock = clock
        self._by_id: dict[str, Session] = {}

    def open(self, *, key: str, name: str, scopes: frozenset[str]) -> str:
        """Begin a session; return its id, which nobody can guess."""
        self._make_room()
        session_id = secrets.token_urlsafe(32)
        self._by_id[session_id] = Session(key, name, scopes, self._clock(), self._clock)
        return session_id

    def come_in(
        self, cookies: Mapping[str, str], *, key: str, name: str, scopes: frozenset[str]
    ) -> str:
        """Return the id of a browser's session with this key: its own, or one in place of that.

        A browser has one session, so that leaving reaches every page that it has open.
        """
        own = self.find(cookies)
        if own is not None and (own.key, own.scopes) == (key, scopes):
            return cookies[self.cookie]
        self.close(cookies)
        return self.open(key=key, name=name, scopes=scopes)

    def find(self, cookies: Mapping[str, str]) -> Session | None:
        """Return the session of a request's cookies."""
        session_id = cookies.get(self.cookie, "")
        session = self._by_id.get(session_id)
        if session is None:
            return None
        if self._is_over(session):
            self._end(session_id)
            return None
        session.used_at = self._clock()
        return session

    def close(self, cookies: Mapping[str, str]) -> None:
        """End the session of a request's cookies, if there is one."""
        self._end(cookies.get(self.cookie, ""))

    def end_idle(self) -> None:
        """End the sessions that are over, so that no key outlives its session in memory."""
        for session_id in [each for each, of in self._by_id.items() if self._is_over(of)]:
            self._end(session_id)

    def _end(self, session_id: str) -> None:
        """End a session wherever it is still looked at: no page keeps its key."""
        session = self._by_id.pop(session_id, None)
        for ending in tuple(session.endings) if session is not None else ():
            ending()

    def _is_over(self, session: Session) -> bool:
        return not session.endings and self._clock() - session.used_at > IDLE_S

    def _make_room(self) -> None:
        """End what is over, and what was idle longest where there are too many."""
        self.end_idle()
        by_use = sorted(self._by_id.items(), key=lambda row: (bool(row[1].endings), row[1].used_at))
        for session_id, _ in by_use[: max(0, len(by_use) + 1 - _MOST)]:
            self._end(session_id)
