"""What users chose from what they were served, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from logs import RATING, columns

from headrace.events import EventColumns
from headrace.served_lists import ServedLists
from headrace.training_settings import TrainingSettings
from models.training.choices import PASSED, Choices, choices_of
from models.training.dataset import before

SETTINGS = TrainingSettings(feedback_window_s=100.0)


def served(*lists: tuple[str, float, Sequence[int]]) -> ServedLists:
    """Lists of (user, time, items by their number in the log)."""
    users = tuple(dict.fromkeys(user for user, _, _ in lists))
    items = sorted({item for _, _, some in lists for item in some})
    lengths = [len(some) for _, _, some in lists]
    return ServedLists(
        user=np.array([users.index(user) for user, _, _ in lists], np.int32),
        served_at=np.array([at for _, at, _ in lists], np.float64),
        start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item=np.array([items.index(i) for _, _, some in lists for i in some], np.int32),
        user_ids=users,
        item_ids=tuple(f"i{item}" for item in items),
    )


def log(*rows: tuple[int, int, float], items: int = 60) -> EventColumns:
    """Ratings of (user, item, rating), a second apart from second 0 on."""
    found = columns([(user, item, RATING, rating) for user, item, rating in rows])
    return replace(found, item_ids=tuple(f"i{n}" for n in range(items)))


def plain(found: Choices) -> list[tuple[int, set[int], set[int]]]:
    """(the session's last event, items acted on, items passed over)."""
    return [
        (event, {item - 1 for item in acted if item}, {item - 1 for item in passed if item})
        for event, acted, passed in zip(
            found.event.tolist(), found.acted.tolist(), found.passed.tolist(), strict=True
        )
    ]


def chosen(lists: ServedLists, events: EventColumns, **changes: Any) -> Any:
    settings = TrainingSettings(**{"feedback_window_s": 100.0, **changes})
    return plain(choices_of(lists, events, settings))


def test_what_stands_above_the_lowest_act_and_one_below_was_passed_over() -> None:
    # u0 met i0, was served five items, and liked the third and then the first of them.
    events = log((0, 0, 5), (0, 3, 5), (0, 1, 5))
    assert chosen(served(("u0", 0.5, [1, 2, 3, 4, 5])), events) == [(0, {3, 1}, {2, 4})]
    # The first alone: what came right below was looked at, too.
    assert chosen(served(("u0", 0.5, [3, 2, 4])), log((0, 0, 5), (0, 3, 5))) == [(0, {3}, {2})]
    # The last and only one leaves nothing to compare it with.
    assert chosen(served(("u0", 0.5, [3])), log((0, 0, 5), (0, 3, 5))) == []


@pytest.mark.parametrize(
    ("lists", "rows", "why"),
    [
        ([("u0", 0.5, [1, 2, 3])], [(0, 0, 5), (0, 4, 5)], "nobody acted on the list"),
        ([("u0", 1.0, [1, 2, 3])], [(0, 0, 5), (0, 3, 5)], "the list came after the act"),
        ([("u0", 0.5, [1, 2, 3])], [(0, 0, 5), (1, 3, 5)], "another user acted"),
        ([("u7", 0.5, [1, 2, 3])], [(0, 0, 5), (0, 3, 5)], "the log does not know the user"),
        ([("u0", -1.0, [1, 2, 3])], [(0, 0, 5), (0, 3, 5)], "there was no session"),
        ([("u0", 0.5, [1, 2, 3])], [(0, 0, 5), (0, 3, 1)], "it was no positive event"),
    ],
)
def test_what_says_nothing(
    lists: list[tuple[str, float, list[int]]], rows: list[tuple[int, int, float]], why: str
) -> None:
    assert chosen(served(*lists), log(*rows)) == [], why


def test_the_window_ends_what_counts_as_an_act() -> None:
    events = log((0, 0, 5), (1, 9, 5), (0, 3, 5))
    lists = served(("u0", 0.5, [1, 2, 3]))
    assert chosen(lists, events, feedback_window_s=1.5) == [(0, {3}, {1, 2})]
    assert chosen(lists, events, feedback_window_s=1.4) == []


def test_an_act_is_on_the_last_list_that_showed_the_item() -> None:
    # i3 stood in both lists; i2 was acted on from the first. So in the first i3 was passed over
    # by nobody, and from the second alone it was chosen, before i5.
    events = log((0, 0, 5), (0, 2, 5), (0, 3, 5))
    lists = served(("u0", 0.5, [1, 3, 2, 4]), ("u0", 1.5, [5, 3]))
    assert chosen(lists, events) == [(0, {2}, {1, 4}), (1, {3}, {5})]


def test_lists_of_one_session_are_one_choice() -> None:
    events = log((0, 0, 5), (0, 2, 5), (0, 5, 5))
    lists = served(("u0", 0.2, [1, 2]), ("u0", 0.6, [4, 5, 1]))
    assert chosen(lists, events) == [(0, {2, 5}, {1, 4})]


def test_what_was_disliked_was_passed_over_and_what_the_log_does_not_know_was_not() -> None:
    events = log((0, 0, 5), (0, 1, 1), (0, 3, 5), items=4)
    assert chosen(served(("u0", 0.5, [1, 9, 3])), events) == [(0, {3}, {1})]


def test_of_a_long_list_the_lowest_ones_were_passed_over() -> None:
    events = log((0, 0, 5), (0, 40, 5))
    found = chosen(served(("u0", 0.5, list(range(1, 50)))), events)
    assert found == [(0, {40}, {*range(41 - PASSED + 1, 40), 41})]


def test_later_events_tell_nothing_of_what_was_known_before() -> None:
    events = log((0, 0, 5), (0, 3, 5), (0, 1, 5))
    lists = served(("u0", 0.5, [1, 2, 3]))
    assert plain(choices_of(lists, before(events, 2), SETTINGS)) == [(0, {3}, {1, 2})]
    assert plain(choices_of(lists, before(events, 1), SETTINGS)) == []
    assert plain(choices_of(lists, before(events, 0), SETTINGS)) == []
    assert plain(choices_of(served(), events, SETTINGS)) == []


def test_in_a_log_in_pieces_a_list_and_its_acts_are_of_one_piece() -> None:
    # The same user twice, as in the sample of an incremental training.
    events = replace(log((0, 0, 5), (0, 3, 5), (1, 0, 5), (1, 3, 5)), user_ids=("u0", "u0"))
    lists = served(("u0", 0.5, [1, 3]), ("u0", 1.5, [2, 3]), ("u0", 2.5, [4, 3]))
    assert plain(choices_of(lists, events, SETTINGS)) == [(0, {3}, {1}), (2, {3}, {4})]


def test_among_some_rows_of_a_log_events_have_other_numbers() -> None:
    found = choices_of(
        served(("u0", 0.5, [1, 2]), ("u0", 2.5, [4, 5])),
        log((0, 0, 5), (0, 2, 5), (0, 3, 5), (0, 5, 5)),
        SETTINGS,
    )
    assert plain(found) == [(0, {2}, {1}), (2, {5}, {4})]
    assert plain(found.of_rows(np.array([1, 2, 3]))) == [(1, {5}, {4})]
    assert len(found.of_rows(np.array([], np.int64))) == 0
    assert found.fingerprint() != found.of_rows(np.array([1, 2, 3])).fingerprint()


def folded(
    lists: Sequence[tuple[str, float, Sequence[int]]], events: EventColumns, window_s: float
) -> list[tuple[int, set[int], set[int]]]:
    """The same, list by list and event by event."""
    positive = events.rating >= 4
    seen: list[tuple[int, list[int], list[int]]] = []
    for user, at, items in lists:
        own = [n for n in range(len(events)) if events.user_ids[events.user[n]] == user]
        before_it = [n for n in own if events.timestamp[n] <= at]
        if before_it:
            later = [n for n in own if at < events.timestamp[n] <= at + window_s and positive[n]]
            met = [n for n in later if events.item[n] in items]
            seen.append((before_it[-1], list(items), met))
    last = {event: number for number, (_, _, met) in enumerate(seen) for event in met}
    found: dict[int, tuple[set[int], set[int]]] = {}
    for number, (session, items, met) in enumerate(seen):
        acted = {int(events.item[event]) for event in met if last[event] == number}
        if acted:
            lowest = max(items.index(item) for item in acted)
            touched = {int(events.item[event]) for event in met}
            looked_at = items[: lowest + 2]
            of_session = found.setdefault(session, (set(), set()))
            of_session[0].update(acted)
            of_session[1].update(set(looked_at) - touched)
    plain = [(session, acted, left - acted) for session, (acted, left) in sorted(found.items())]
    return [(session, acted, left) for session, acted, left in plain if left]


@pytest.mark.parametrize("seed", range(30))
def test_any_lists_and_events_come_to_what_they_come_to_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = 4, 12
    rows = [
        (int(rng.integers(users)), int(rng.integers(items)), float(rng.integers(2, 6)))
        for _ in range(40)
    ]
    events = log((0, 0, 5), *((user, item, rating) for user, item, rating in rows), items=items)
    times = np.sort(rng.uniform(-2, 42, 30))
    lists = [
        (f"u{rng.integers(users)}", float(at), rng.permutation(items)[:5].tolist()) for at in times
    ]
    found = chosen(served(*lists), events, feedback_window_s=7.0)
    expected = folded(lists, events, 7.0)
    # Of the items acted on the first ones are kept.
    assert [each[0] for each in found] == [each[0] for each in expected]
    for (_, acted, left), (_, all_acted, all_left) in zip(found, expected, strict=True):
        assert acted <= all_acted
        assert len(acted) == min(3, len(all_acted))
        assert left == all_left
    assert found
