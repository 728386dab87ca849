"""The demo's oracle."""

from __future__ import annotations

import msgspec

from headrace.events import Rating
from headrace.local.demo.oracle import Expected, differences, fold
from headrace.sessions import Interaction, LoggedEvent, Session, SessionStore
from headrace.settings import Settings
from headrace.store import connect


def _rating(user_id: str, item_id: str, timestamp: float, rating: float = 3.0) -> Rating:
    return Rating(
        event_id=f"{user_id}-{item_id}-{timestamp}",
        user_id=user_id,
        item_id=item_id,
        timestamp=timestamp,
        rating=rating,
    )


def _session(expected: Expected) -> Session:
    session = Session.from_interactions(expected.interactions, 1_000)
    return msgspec.structs.replace(session, applied=expected.applied)


def test_the_newest_event_of_an_item_wins_and_of_equal_times_the_last_sent() -> None:
    folded = fold(
        [
            _rating("u", "a", 10, 1.0),
            _rating("u", "b", 30, 2.0),
            _rating("u", "a", 20, 3.0),  # newer than the a at 10
            _rating("u", "b", 25, 4.0),  # late: the b at 30 stays
            _rating("u", "c", 20, 5.0),  # as old as the a at 20, sent after it
            _rating("u", "c", 20, 1.5),  # as old as the c before it: the last sent wins
        ],
        200,
    )
    assert list(folded["u"].interactions.items()) == [
        ("a", Interaction(20, 3.0)),
        ("c", Interaction(20, 1.5)),
        ("b", Interaction(30, 2.0)),
    ]
    assert folded["u"].applied == 6


def test_the_newest_200_are_kept() -> None:
    ratings = [_rating("u", f"i{number}", number) for number in range(205)]
    folded = fold([*ratings, _rating("v", "i0", 1)], 200)
    assert list(folded["u"].interactions) == [f"i{number}" for number in range(5, 205)]
    assert folded["u"].applied == 205
    assert list(folded["v"].interactions) == ["i0"]


def test_no_difference() -> None:
    folded = fold([_rating("u", "a", 1), _rating("v", "b", 2)], 200)
    sessions = {user_id: _session(expected) for user_id, expected in folded.items()}
    assert differences(folded, sessions) == []


def test_each_difference_is_told() -> None:
    folded = fold([_rating("u", item, time) for time, item in enumerate("abc")], 200)
    right = _session(folded["u"])

    def reason(session: Session) -> str:
        (difference,) = differences(folded, {"u": session})
        assert difference.user_id == "u"
        return difference.reason

    replace = msgspec.structs.replace
    assert reason(replace(right, applied=4)) == "4 events applied, 3 sent"
    assert reason(Session(applied=3)) == "3 interactions are missing, item a the first"
    assert "item b" in reason(replace(right, ratings=(3.0, 4.0, 3.0)))
    assert "too many, item d" in reason(
        Session(
            (*right.item_ids, "d"),
            (*right.timestamps, 9.0),
            (*right.kinds, "rating"),
            (*right.ratings, 1.0),
            3,
        )
    )


def test_a_user_whom_redis_does_not_know_and_one_whom_the_file_does_not() -> None:
    folded = fold([_rating("u", "a", 1)], 200)
    told = differences(folded, {"w": Session(applied=1)})
    assert [(difference.user_id, difference.reason) for difference in told] == [
        ("u", "0 events applied, 1 sent"),
        ("w", "1 events applied, 0 sent"),
    ]


async def test_the_fold_is_what_redis_makes_of_the_same_events(settings: Settings) -> None:
    # 300 events of 250 items with many equal timestamps, more than the limit of 200.
    ratings = [_rating("u", f"i{n * 7 % 250}", n // 5, float(n % 5 + 1)) for n in range(300)]
    async with connect(settings) as redis:
        store = SessionStore(redis, settings)
        await store.apply(
            [LoggedEvent(rating, "ratings", "id", 1, n) for n, rating in enumerate(ratings)]
        )
        sessions = {"u": await store.read("u")}
    assert differences(fold(ratings, 200), sessions) == []
