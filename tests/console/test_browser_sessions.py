"""Who has come in: how long a session lasts, and what ends it."""

from __future__ import annotations

from functools import partial

import pytest

from console import sessions
from console.sessions import IDLE_S, Sessions


def test_a_session_is_in_use_while_a_page_of_it_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_MOST", 2)
    now = 1_000.0
    kept = Sessions(lambda: now, "cookie")
    told: list[str] = []

    def come_in(name: str) -> dict[str, str]:
        return {"cookie": kept.open(key=name, name=name, scopes=frozenset())}

    first = come_in("first")
    found = kept.find(first)
    assert found is not None
    ending = partial(told.append, "first")
    found.page_opened(ending)
    now += IDLE_S + 1
    assert kept.find(first) is found
    now += IDLE_S + 1
    second = come_in("second")
    # There is room for two: the one that nobody looks at goes.
    third = come_in("third")
    assert (kept.find(second), told) == (None, [])
    assert kept.find(third) is not None
    found.page_closed(ending)
    now += IDLE_S - 1
    assert kept.find(first) is found
    found.page_opened(ending)
    kept.close(first)
    assert (kept.find(first), told) == (None, ["first"])


def test_a_browser_has_one_session_and_no_key_outlives_its_own() -> None:
    now = 1_000.0
    sessions = Sessions(lambda: now, "cookie")
    told: list[str] = []

    def come_in(cookies: dict[str, str], key: str) -> dict[str, str]:
        return {"cookie": sessions.come_in(cookies, key=key, name="", scopes=frozenset())}

    first = come_in({}, "one")
    # At another door of the same browser, with the same key.
    assert come_in(first, "one") == first
    found = sessions.find(first)
    assert found is not None
    ending = partial(told.append, "one")
    found.page_opened(ending)
    second = come_in(first, "two")
    # Pages with the key before are told: none of them goes on with it.
    assert (sessions.find(first), told) == (None, ["one"])
    other = come_in({"cookie": "guessed"}, "two")
    assert other not in (second, {"cookie": "guessed"})

    kept = sessions.find(second)
    assert kept is not None
    kept.endings.add(partial(told.append, "two"))
    now += IDLE_S + 1
    sessions.end_idle()
    # Nobody has come meanwhile.
    assert list(sessions._by_id.values()) == [kept]


def test_a_session_ends_with_leaving_and_by_itself() -> None:
    now = 1_000.0
    sessions = Sessions(lambda: now, "cookie")
    told: list[str] = []
    ids = [sessions.open(key=key, name="", scopes=frozenset()) for key in ("one", "two")]
    first, second = ({"cookie": each} for each in ids)
    found = sessions.find(first)
    assert found is not None
    assert (found.key, "one" in repr(found)) == ("one", False)
    found.endings.add(lambda: told.append("left"))
    sessions.close(first)
    assert (sessions.find(first), told) == (None, ["left"])
    now += IDLE_S + 1
    assert sessions.find(second) is None
    assert sessions.find({"cookie": "guessed"}) is None
