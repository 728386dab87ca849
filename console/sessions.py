"""Who has come in at the door: an API key by browser session, in this process's memory alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Theme = Literal["auto", "light", "dark"]
THEMES: tuple[Theme, ...] = ("auto", "light", "dark")
IDLE_S = 12 * 3600.0
"""Seconds without a page being opened after which a session is over: longer than a working day."""
_MOST_TABS = 100
"""Of a session, whose visitors are kept."""
_MOST = 10_000
"""Sessions kept; the one that was idle longest goes first."""


@dataclass
class Session:
    """One browser's stay: its key, and what that opens. It is written nowhere."""

    key: str = field(repr=False)
    name: str
    """Of the key, as the server knows it."""
    scopes: frozenset[str]
    used_at: float
    """Unix seconds."""
    theme: Theme = "auto"
    visitors: dict[str, str] = field(default_factory=dict)
    """By tab of the browser, whose feed it shows; the newest last."""
    endings: set[Callable[[], None]] = field(default_factory=set, repr=False)
    """What open pages want to know of: they go to the door."""

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
        self._forget_idle()
        session_id = secrets.token_urlsafe(32)
        self._by_id[session_id] = Session(key, name, scopes, self._clock())
        return session_id

    def find(self, cookies: Mapping[str, str]) -> Session | None:
        """Return the session of a request's cookies."""
        session_id = cookies.get(self.cookie, "")
        session = self._by_id.get(session_id)
        if session is None:
            return None
        if self._clock() - session.used_at > IDLE_S:
            del self._by_id[session_id]
            return None
        session.used_at = self._clock()
        return session

    def close(self, cookies: Mapping[str, str]) -> None:
        """End the session of a request's cookies, if there is one."""
        session = self._by_id.pop(cookies.get(self.cookie, ""), None)
        for ending in tuple(session.endings) if session is not None else ():
            ending()

    def _forget_idle(self) -> None:
        oldest_first = sorted(self._by_id, key=lambda each: self._by_id[each].used_at)
        now = self._clock()
        for place, session_id in enumerate(oldest_first):
            too_many = len(oldest_first) - place >= _MOST
            if too_many or now - self._by_id[session_id].used_at > IDLE_S:
                del self._by_id[session_id]
