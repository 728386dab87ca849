"""What Feed is made of, apart from any browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from nicegui import ElementFilter
from nicegui.testing import user_simulation
from nicegui.testing.user_interaction import UserInteraction
from parts import eventually
from parts_tools import is_said, opened_visit

from console.pages.feed.cards import cards_of, moved
from console.pages.feed.controls import _OFTEN, Controls, Limits, spread
from console.pages.feed.page import Feed, FeedList
from headrace_client import AcceptedEvent, Click, RecommendationAnswer, Unreachable, Update
from headrace_client.types import (
    FoundItems,
    Interaction,
    Item,
    KnownUser,
    Reason,
    Recommendation,
    SessionInfo,
    UserInteractions,
    UserList,
)


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        ({}, Limits()),
        (
            {"cards": "24", "category": "Ring", "diversity": "0.5", "seen": "true"},
            Limits(24, "Ring", 0.5, True),
        ),
        ({"cards": "13", "diversity": "nan", "seen": "yes"}, Limits()),
        ({"cards": "", "diversity": "much"}, Limits()),
        ({"diversity": "1.1"}, Limits()),
    ],
)
def test_an_address_keeps_the_limits_of_a_feed(query: dict[str, str], limits: Limits) -> None:
    assert Limits.of(query) == limits
    assert Limits.of(limits.query()) == limits


def test_users_are_offered_with_long_sessions_and_with_short_ones() -> None:
    users = [KnownUser(user_id=str(n), interactions=n) for n in (3, 200, 9, 200, 1, 40, 7, 12, 5)]
    assert [each.interactions for each in spread(users, 5)] == [200, 40, 9, 5, 1]
    assert [each.interactions for each in spread(users[:2], 5)] == [200, 3]
    assert spread([], 5) == []


def test_cards_say_where_they_came_from_and_why() -> None:
    items = {"a": Item(item_id="a", title="Tea", categories=["Drinks"]), "c": Item(item_id="c")}
    lists = [
        Recommendation(id="a", score=0.5, because=[Reason(id="d", effect=-0.02)]),
        Recommendation(id="b", score=0.25),
        Recommendation(id="c", score=0.125),
    ]
    before = {"b": 1, "c": 3, "a": 2}
    met = {"d": Interaction(timestamp=1.0, rating=4.5, event="rating")}
    shown = cards_of(lists, items, before, met, by_model=True)
    assert [(each["title"], each["move"], each["moved"]) for each in shown] == [
        ("Tea", "up", "up 1"), ("b", "down", "down 1"), ("c", "", ""),
    ]  # fmt: skip
    assert shown[0]["because"] == [
        {"title": "d", "verb": "rated 4.5", "effect": "\N{MINUS SIGN}2.0 points", "for": False}
    ]
    assert moved(before, {"a": 1, "b": 2, "c": 3}) == 2
    assert shown[0]["score"] == "50.0\u00a0%"
    # Bars compare with the best of the list.
    assert [each["share"] for each in shown] == [1.0, 0.5, 0.25]
    assert [each["rated"] for each in shown] == [None] * 3
    [again] = cards_of(lists[:1], items, {}, {"a": met["d"]}, by_model=True)
    # What the user did with the other item is not known yet.
    assert (again["rated"], again["because"]) == (4.5, [])


def test_what_no_model_scored_shows_no_chance() -> None:
    lists = [Recommendation(id="a", score=0.01), Recommendation(id="b", score=0)]
    shown = cards_of(lists, {}, {}, {}, by_model=False)
    assert [(each["score"], each["share"]) for each in shown] == [("", 0.0)] * 2


class Served:
    """Stands for the API of a server with one user, whose lists the test hands out."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        """How many readings of the session fail."""
        self.lists: asyncio.Queue[RecommendationAnswer] = asyncio.Queue()
        self.may_answer = asyncio.Event()
        """Whether an event is answered."""
        self.asked_for_users = 0

    def give(self, name: str, items: str, offset: int) -> None:
        """Hand out a list, which knows the user's events up to an offset."""
        marks = {"clicks/0": offset}
        answer = RecommendationAnswer(
            id=name, recommendations=[Recommendation(id=each, score=0.5) for each in items],
            message=None, model=None,
            session=SessionInfo(interactions=1, applied=1, updated_at=None, marks=marks),
        )  # fmt: skip
        self.lists.put_nowait(answer)

    async def stream(self, *_: object, **__: object) -> AsyncIterator[Update]:
        while True:
            answer = await self.lists.get()
            yield Update(answer.id, answer)

    async def interactions(self, user_id: str) -> UserInteractions:
        self.failures -= 1
        if self.failures >= 0:
            raise Unreachable("", not_sent=True)
        met = {"tea": Interaction(timestamp=0.0, rating=3.0, event="click")}
        return UserInteractions(user_id=user_id, interactions=met, applied=1, marks={})

    async def send_event(self, event: Click) -> AcceptedEvent:
        await self.may_answer.wait()
        return AcceptedEvent(
            event_id=event.event_id, topic="clicks", partition=0, offset=5, token=""
        )

    async def items(self, *_: object, **__: object) -> FoundItems:
        return FoundItems(items=[], count=0, offset=0, categories={})

    async def users(self, **_: object) -> UserList:
        self.asked_for_users += 1
        return UserList(users=[])

    async def close(self) -> None: ...


def draw_feed(api: Served) -> None:
    """Draw the page of somebody who may look at what this API has."""
    visit = opened_visit()
    visit.api = api  # type: ignore[assignment]
    Feed(visit).draw()


async def test_a_session_that_could_not_be_read_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("console.widgets.shared.AGAIN_S", 0.5)
    api = Served(failures=1)
    async with user_simulation(lambda: draw_feed(api)) as user:
        await user.open("/")
        with user:
            api.give("one", "ab", 4)
            await eventually(lambda: is_said("It is asked again by itself."), "it is said")
            # No other list comes: nothing has happened.
            await eventually(lambda: is_said("1 item from 1 event"), "the session is shown")
            assert not await is_said("It is asked again by itself.")


async def test_an_act_is_answered_by_the_first_list_that_knows_it() -> None:
    api = Served()
    async with user_simulation(lambda: draw_feed(api)) as user:
        await user.open("/")
        with user:
            [shown] = ElementFilter(kind=FeedList)
            cards = UserInteraction(user, {shown}, None)

            async def shows(name: str) -> bool:
                return shown.props["list"] == name

            async def is_answered() -> bool:
                return bool(shown.props["answered"])

            api.give("before", "abc", 4)
            await eventually(lambda: shows("before"), "a list is shown")
            cards.trigger("act", {"serial": 1, "item": "a", "kind": "click", "rating": None})
            # The stream is faster than the answer, and brings another one that changes nothing.
            for name, items, offset in (("knows", "bac", 5), ("after", "bac", 6)):
                api.give(name, items, offset)
                await eventually(lambda name=name: shows(name), f"{name} is shown")
            api.may_answer.set()
            await eventually(is_answered, "the act is answered")
            assert shown.props["answered"] == [{"serial": 1, "list": "knows"}]
            cards.trigger("delay", {"serial": 1, "ms": 12.0})
            assert await is_said("after opening “a” the list knew it; 2 cards moved.")


async def test_users_are_looked_for_often_at_first_and_seldom_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For ever where there are few: the calls shown would be no others."""
    monkeypatch.setattr("console.pages.feed.controls._LOOK_S", 3_600.0)
    api, made = Served(), []

    def page() -> None:
        visit = opened_visit()
        visit.api = api  # type: ignore[assignment]
        made.append(Controls(visit, lambda _: None, lambda: None))

    async def has_looked() -> bool:
        return api.asked_for_users == 1

    async with user_simulation(page) as user:
        await user.open("/")
        with user:
            await eventually(has_looked, "it looks by itself")
            for _ in range(3 * _OFTEN - 1):
                await made[0]._offer()
    assert api.asked_for_users == _OFTEN + 2
