"""Sequential rules: by hand, against counting pair by pair, and within their bounds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.retrieval.ruled import LiveRules
from models.retrieval.rules import STEPS, LiveTable, Rules, count_rules

Pairs = dict[tuple[int, int], float]

sequences = st.lists(st.lists(st.integers(0, 6), max_size=14), max_size=6)
ITEMS = 7


def log(*users: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The users' sequences one after the other, and where each event's user begins."""
    item = np.array([at for user in users for at in user], np.int64)
    begins = np.cumsum([0, *(len(user) for user in users)])
    return item, np.repeat(begins[:-1], [len(user) for user in users])


def pair_by_pair(users: list[list[int]], steps: int = STEPS) -> Pairs:
    """The definition itself."""
    weights: Counter[tuple[int, int]] = Counter()
    for user in users:
        for at, target in enumerate(user):
            for d in range(1, min(steps, at) + 1):
                weights[user[at - d], target] += 1 / d  # type: ignore[assignment]
    return dict(weights)


def as_pairs(rules: Rules) -> Pairs:
    source = np.repeat(np.arange(rules.items), np.diff(rules.starts))
    rows = zip(source.tolist(), rules.targets.tolist(), rules.weights.tolist(), strict=True)
    return {(a, b): weight for a, b, weight in rows}


def transitions(users: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """`previous` and `items` of the users' events, one user after the other."""
    previous, items = [], []
    for user in users:
        for at, item in enumerate(user):
            before = user[max(0, at - STEPS) : at][::-1]
            previous.append(before + [-1] * (STEPS - len(before)))
            items.append(item)
    return np.array(previous, np.int64).reshape(-1, STEPS), np.array(items, np.int64)


def no_rules(items: int) -> Rules:
    return count_rules(np.zeros(0, np.int64), np.zeros(0, np.int64), items)


def live_pairs(table: LiveTable, items: int = ITEMS) -> Pairs:
    source, target, weight = table.entries(np.arange(items))
    rows = zip(source.tolist(), target.tolist(), weight.tolist(), strict=True)
    return {(a, b): w for a, b, w in rows}


def test_counted_by_hand() -> None:
    # Ann: 0 1 2 1. Bob: 1 2.   Of Ann's: 0→1: 1 + 1/3, 0→2: 1/2, 1→2: 1, 1→1: 1/2, 2→1: 1.
    # Of Bob's: 1→2: 1.         Nothing leads from Ann's last to Bob's first.
    rules = count_rules(*log([0, 1, 2, 1], [1, 2]), 3)
    assert rules.starts.tolist() == [0, 2, 4, 5]
    assert rules.targets.tolist() == [1, 2, 2, 1, 1]  # The heaviest of a row first.
    assert rules.weights.tolist() == pytest.approx([4 / 3, 1 / 2, 2, 1 / 2, 1])
    assert rules.totals.tolist() == pytest.approx([11 / 6, 5 / 2, 1])
    assert rules.flaw() is None


def test_rules_reach_ten_places_back() -> None:
    rules = count_rules(*log(list(range(13))), 13)
    weights = as_pairs(rules)
    assert weights[0, 10] == pytest.approx(1 / 10)
    assert (0, 11) not in weights
    assert max(b - a for a, b in as_pairs(count_rules(*log(list(range(13))), 13, steps=2))) == 2


def test_a_row_keeps_its_heaviest_targets_and_its_whole_total() -> None:
    # 0→5 twice, 0→1, 0→2, 0→3 once each: of the equal ones the lowest positions stay.
    rules = count_rules(*log([0, 3], [0, 2], [0, 5], [0, 1], [0, 5]), 6, per_item=3)
    assert rules.targets.tolist() == [5, 1, 2]
    assert rules.weights.tolist() == [2, 1, 1]
    assert rules.totals[0] == 5


@hypothesis_settings(deadline=None)
@given(sequences)
def test_counting_agrees_with_pair_by_pair(users: list[list[int]]) -> None:
    rules = count_rules(*log(*users), ITEMS)
    expected = pair_by_pair(users)
    assert as_pairs(rules) == pytest.approx(expected)
    for a in range(ITEMS):
        total = sum(weight for (source, _), weight in expected.items() if source == a)
        assert rules.totals[a] == pytest.approx(total)
    assert rules.flaw() is None


def test_groups_of_items_count_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    users = np.random.default_rng(3).integers(0, 50, (40, 25)).tolist()
    whole = count_rules(*log(*users), 50, per_item=10)
    # 1,000 events, 20 of each item: three items at once; and 10: every item is too frequent.
    for at_once in (60, 10):
        monkeypatch.setattr("models.retrieval.rules._EVENTS_AT_ONCE", at_once)
        grouped = count_rules(*log(*users), 50, per_item=10)
        for name in ("starts", "targets", "weights", "totals"):
            np.testing.assert_array_equal(getattr(grouped, name), getattr(whole, name))


def test_equal_weights_are_kept_by_position_whatever_they_are_the_sums_of() -> None:
    # 0→1 and 0→2 are each 1 + 1/2 + 1/3, met in another order.
    users = [[0, 1], [0, 2], [0, 3, 2], [0, 3, 1], [0, 3, 3, 1], [0, 3, 3, 2]]
    for of in (users, users[::-1]):
        rules = count_rules(*log(*of), 4, per_item=2)
        assert rules.targets[:2].tolist() == [3, 1]


@hypothesis_settings(deadline=None)
@given(sequences, st.integers(1, 20))
def test_the_live_table_agrees_with_pair_by_pair(users: list[list[int]], size: int) -> None:
    table = LiveTable()
    previous, items = transitions(users)
    for at in range(0, len(items), size):
        table.add(previous[at : at + size], items[at : at + size])
    expected = pair_by_pair(users)
    assert live_pairs(table) == pytest.approx(expected)
    for a, total in enumerate(table.totals(np.arange(ITEMS)).tolist()):
        weights = [weight for (source, _), weight in expected.items() if source == a]
        assert total == pytest.approx(sum(weights))


def one(table: LiveTable, source: int, target: int) -> None:
    """Add the transition source → target."""
    table.add(np.array([[source] + [-1] * (STEPS - 1)]), np.array([target]))


def test_in_a_full_row_the_lightest_target_gives_way_to_a_new_one() -> None:
    table = LiveTable(per_item=2)
    for target in (1, 1, 2, 3):
        one(table, 0, target)
    # 2 is gone, 3 begins at 1; the total remembers all four.
    assert live_pairs(table) == {(0, 1): 2, (0, 3): 1}
    one(table, 0, 2)
    assert live_pairs(table) == {(0, 1): 2, (0, 2): 1}
    assert table.totals(np.array([0])).tolist() == [5]


def test_of_more_new_targets_than_fit_the_heaviest_stay() -> None:
    # In one batch: 0→3 at distance 1 and 0→2 at distance 2, twice each; 0→4 at distance 1, once.
    table = LiveTable(per_item=2)
    previous, items = transitions([[0, 3, 2], [0, 3, 2], [0, 4]])
    table.add(previous, items)
    assert live_pairs(table, 1) == {(0, 3): 2, (0, 2): 1}


def test_the_row_added_to_longest_ago_is_reused() -> None:
    table = LiveTable(max_rows=STEPS)
    for source in range(STEPS):
        one(table, source, 50)
    one(table, 0, 51)
    one(table, 30, 52)  # Takes the row of 1.
    assert len(table) == STEPS
    pairs = live_pairs(table, 60)
    assert {(0, 50), (0, 51), (2, 50), (30, 52)} <= set(pairs)
    assert (1, 50) not in pairs
    assert table.totals(np.array([1, 30])).tolist() == [0, 1]
    one(table, 1, 53)  # Comes back, empty, in the place of 2.
    assert {key: w for key, w in live_pairs(table, 60).items() if key[0] in (1, 2)} == {(1, 53): 1}


@hypothesis_settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=6), st.integers(1, 50))
def test_the_live_table_stays_within_its_bounds(users: list[list[int]], size: int) -> None:
    table = LiveTable(per_item=3, max_rows=12)
    previous, items = transitions(users)
    exact = pair_by_pair(users)
    for at in range(0, len(items), size):
        table.add(previous[at : at + size], items[at : at + size])
    source, target, weight = table.entries(np.arange(41))
    assert len(table) <= 12
    assert np.bincount(source, minlength=1).max() <= 3
    assert len(set(zip(source.tolist(), target.tolist(), strict=True))) == len(source)
    # What is kept was there, and at most as heavy.
    for a, b, kept in zip(source.tolist(), target.tolist(), weight.tolist(), strict=True):
        assert 0 < kept <= exact[a, b] * (1 + 1e-5)


def test_too_small_a_table_is_refused() -> None:
    for per_item, max_rows in ((0, 100), (4, STEPS - 1)):
        with pytest.raises(ValueError, match="holds no transition"):
            LiveTable(per_item, max_rows)


def test_candidates_by_hand() -> None:
    # Base: 0→1: 2, 0→2: 1, total 3.  1→2: 1, total 1.  With smoothing 1:
    # r(1|0) = 2/4, r(2|0) = 1/4, r(2|1) = 1/2. From 1 (newest) and 0, decay 1/2:
    # p(1) = (½ · 2/4) / 1½ = 1/6,  p(2) = (1 · 1/2 + ½ · 1/4) / 1½ = 5/12.
    base = count_rules(*log([0, 1], [0, 1], [0, 2], [1, 2]), 4)
    rules = LiveRules(base)
    [(positions, probabilities)] = rules.candidates([np.array([1, 0])], 0.5, 1.0)
    assert positions.tolist() == [1, 2]
    assert probabilities.tolist() == pytest.approx([1 / 6, 5 / 12])
    # 1→2 and 1→7 (a cold item) come in: r(2|1) = 2/4, r(7|1) = 1/4.
    for target in (2, 7):
        rules.add(np.array([[1] + [-1] * (STEPS - 1)]), np.array([target]))
    [(positions, probabilities)] = rules.candidates([np.array([1])], 0.5, 1.0)
    assert positions.tolist() == [2, 7]
    assert probabilities.tolist() == pytest.approx([1 / 2, 1 / 4])
    # From the cold item, of which nothing is known, and from 1: half of it at decay 1.
    [(positions, probabilities)] = rules.candidates([np.array([7, 1])], 1.0, 1.0)
    assert probabilities.tolist() == pytest.approx([1 / 4, 1 / 8])
    rules.add(np.array([[7] + [-1] * (STEPS - 1)]), np.array([0]))
    assert rules.candidates([np.array([7])], 1.0, 1.0)[0].positions.tolist() == [0]


def test_a_given_table_is_used_although_it_is_empty() -> None:
    table = LiveTable(per_item=1)
    rules = LiveRules(no_rules(3), table)
    for target in (1, 2):
        rules.add(np.array([[0] + [-1] * (STEPS - 1)]), np.array([target]))
    assert rules.candidates([np.array([0])], 1.0, 0.0)[0].positions.tolist() == [2]


def test_without_rules_there_are_no_candidates() -> None:
    rules = LiveRules(no_rules(3))
    for recent in ([], [0, 2], [9]):
        [(positions, probabilities)] = rules.candidates([np.array(recent, np.int64)], 0.7, 0.0)
        assert len(positions) == len(probabilities) == 0


@hypothesis_settings(deadline=None)
@given(sequences, st.integers(0, 14), st.floats(0, 5), st.floats(0.1, 1))
def test_what_is_counted_before_and_what_is_added_after_sum_up(
    users: list[list[int]], cut: int, smoothing: float, decay: float
) -> None:
    base = count_rules(*log(*(user[:cut] for user in users)), ITEMS)
    rules = LiveRules(base)
    for user in users:
        previous, items = transitions([user])
        rules.add(previous[cut:], items[cut:])
    weights = pair_by_pair(users)
    totals = [sum(w for (a, _), w in weights.items() if a == at) for at in range(ITEMS)]
    recent = [3, 0, 5]
    expected = [
        sum(
            decay**j * weights.get((a, b), 0) / (totals[a] + smoothing)
            for j, a in enumerate(recent)
            if totals[a]
        )
        / sum(decay**j for j in range(3))
        for b in range(ITEMS)
    ]
    [(positions, probabilities)] = rules.candidates([np.array(recent)], decay, smoothing)
    found = np.zeros(ITEMS)
    found[positions] = probabilities
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    assert probabilities.sum() <= 1 + 1e-5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"starts": np.array([0, 1, 2], np.int32)}, "types"),
        ({"starts": np.array([0, 2], np.int64)}, "lengths"),
        ({"starts": np.array([0, 3, 2], np.int64)}, "rise"),
        ({"starts": np.array([0, 1, 1], np.int64)}, "rise"),
        ({"targets": np.array([1, 2], np.int32)}, "outside of 0 to 1"),
        ({"targets": np.array([-1, 0], np.int32)}, "outside"),
        ({"weights": np.array([1, np.nan], np.float32)}, "finite"),
        ({"weights": np.array([1, 0], np.float32)}, "not above 0"),
        ({"weights": np.array([1, 3], np.float32)}, "more weight"),
        ({"totals": np.array([[1, 1]], np.float32)}, "dimension"),
        ({"totals": np.array([1, np.inf], np.float32)}, "finite"),
    ],
)
def test_flaws_are_named(change: dict[str, np.ndarray], words: str) -> None:
    rules = count_rules(*log([0, 1, 0]), 2)
    rules = replace(
        rules,
        starts=np.array([0, 1, 2], np.int64),
        targets=np.array([1, 0], np.int32),
        weights=np.ones(2, np.float32),
        totals=np.ones(2, np.float32),
    )
    assert rules.flaw() is None
    assert words in str(replace(rules, **change).flaw())


def test_sessions_looked_at_together_lead_where_each_leads_alone() -> None:
    rules = LiveRules(count_rules(*log([0, 1, 2], [0, 2], [3, 1, 0, 4]), 6))
    rules.add(np.array([[2] + [-1] * (STEPS - 1)]), np.array([9]))
    recent = [np.array(each, np.int64) for each in ([1, 0], [], [5], [2, 3, 0], [9], [0])]
    together = rules.candidates(recent, 0.7, 1.0)
    for each, found in zip(recent, together, strict=True):
        [alone] = rules.candidates([each], 0.7, 1.0)
        assert found.positions.tolist() == alone.positions.tolist()
        assert found.probabilities.tolist() == alone.probabilities.tolist()
    assert [len(found.positions) > 0 for found in together] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]
    assert rules.candidates([], 0.7, 1.0) == []
