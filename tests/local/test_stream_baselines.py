"""The baselines that learn by the event, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.errors import HeadraceError
from headrace.local.baselines import (
    MAX_ITEMS,
    MISS,
    ItemKnn,
    Popularity,
    SequentialRules,
    stream_ranks,
)

A, B, C, D = range(4)


def session(*items: int) -> np.ndarray:
    return np.array(items, np.int32)


def test_rules_weigh_by_distance_and_look_from_the_last_items() -> None:
    rules = SequentialRules(4)
    rules.learn(session(A, B), C)  # B→C 1, A→C 1/2
    rules.learn(session(A), B)  # A→B 1
    # From (B, A): A stands 1 ago, B 2 ago: B gets 1, C gets 1/2 + 1/2 · 1.
    assert rules.scores(session(B, A)).tolist() == [0, 1, 1, 0]
    assert rules.scores(session()).tolist() == [0, 0, 0, 0]


def test_rules_reach_ten_events_back_and_no_further() -> None:
    rules = SequentialRules(12)
    rules.learn(session(*range(11)), 11)
    assert rules.scores(session(1))[11] == pytest.approx(1 / 10)
    assert rules.scores(session(0))[11] == 0


def test_an_item_twice_in_the_session_counts_twice_for_rules() -> None:
    rules = SequentialRules(2)
    rules.learn(session(A, A), B)
    assert rules.scores(session(A))[B] == pytest.approx(1 + 1 / 2)


def test_neighbours_are_those_of_the_same_users() -> None:
    knn = ItemKnn(4)
    for user in ((A, B), (A, B), (A, C)):
        for end in range(len(user)):
            knn.learn(session(*user[:end]), user[end])
    # 3 users met A, 2 B, 1 C; 2 met A and B, 1 A and C.
    assert knn.scores(session(A)) == pytest.approx([0, 2 / 6**0.5, 1 / 3**0.5, 0])
    # From (B, A): A weighs 1, B 1/2; A's cosine with B is as above.
    expected = [0.5 * 2 / 6**0.5, 2 / 6**0.5, 1 / 3**0.5, 0]
    assert knn.scores(session(B, A)) == pytest.approx(expected)


def test_a_user_counts_once_for_an_item() -> None:
    knn = ItemKnn(2)
    for before, item in (((), A), ((A,), B), ((A, B), B), ((A, B, B), A)):
        knn.learn(session(*before), item)
    assert knn.scores(session(A)) == pytest.approx([0, 1])


def test_ranks_are_among_known_and_unmet_items_and_ties_count_against() -> None:
    #        0  1  2  3  4  5  6
    user = [0, 1, 2, 0, 1, 2, 2]
    item = [A, A, B, B, C, C, A]
    ranks = stream_ranks(session(*user), session(*item), 3, Popularity(4))
    # 3: user 0 has met A; of known items B is left: rank 1.
    # 4: C has had no event: a miss.
    # 5: user 2 has met B; A 2, C 1: rank 2.
    # 6: user 2 has met B and C: A alone is left: rank 1.
    assert ranks.tolist() == [1, MISS, 2, 1]
    # 2's first event: A and B have one each.
    assert stream_ranks(session(0, 1, 2), session(A, B, B), 2, Popularity(4)).tolist() == [2]


def test_asking_changes_nothing() -> None:
    for baseline in (Popularity(4), SequentialRules(4), ItemKnn(4)):
        baseline.learn(session(A), B)
        first = baseline.scores(session(A)).tolist()
        assert baseline.scores(session(A)).tolist() == first


def test_too_many_items_are_refused() -> None:
    with pytest.raises(HeadraceError, match=f"{MAX_ITEMS + 1:,}"):
        SequentialRules(MAX_ITEMS + 1)
