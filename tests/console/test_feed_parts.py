"""What Feed is made of, apart from any browser."""

from __future__ import annotations

import pytest

from console.pages.feed.cards import cards_of, moved
from console.pages.feed.controls import Limits, spread
from headrace_client.types import (
    Interaction,
    Item,
    KnownUser,
    Reason,
    Recommendation,
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
