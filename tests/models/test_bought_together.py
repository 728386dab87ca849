"""What is bought together, counted by hand and against a slow count of the same log."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from logs import CLICK, PURCHASE, RATING

from headrace.events import EventColumns
from models.retrieval.bought_together import BoughtTogether
from models.training.bought_together import KEPT, count_bought_together

HOUR = 3600.0


def purchases(rows: list[tuple[int, int, float]], items: int, kind: int = PURCHASE) -> EventColumns:
    """Rows of (user, item, hour), in the order of time."""
    user, item, hour = (np.array(column) for column in zip(*rows, strict=True))
    return EventColumns(
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        timestamp=1_700_000_000.0 + hour * HOUR,
        kind=np.full(len(rows), kind, np.int8),
        rating=np.full(len(rows), np.nan, np.float32),
        user_ids=tuple(f"u{n}" for n in range(int(user.max()) + 1)),
        item_ids=tuple(f"i{n}" for n in range(items)),
        through={},
    )


def rows(together: BoughtTogether) -> dict[int, list[tuple[int, float]]]:
    found = {}
    for item in range(len(together.baskets)):
        others, shares = together.of(item)
        if len(others):
            found[item] = list(zip(others.tolist(), shares.tolist(), strict=True))
    return found


def test_by_hand() -> None:
    # User 0: {0, 1, 2} within a day of hour 0, item 1 twice; then {0} and, a week on, {0, 2}.
    # User 1: {1, 2}.  User 2 buys 3 alone.
    log = purchases(
        [
            (0, 0, 0), (2, 3, 0), (0, 1, 1), (1, 2, 1), (0, 1, 2), (1, 1, 3), (0, 2, 24),
            (0, 0, 25), (0, 0, 200), (0, 2, 201),
        ],
        items=5,
    )  # fmt: skip
    together = count_bought_together(log, 24 * HOUR)
    # Baskets: of 0 {012} {0} {02}, of 1 {012} {12}, of 2 {012} {02} {12}, of 3 {3}.
    assert together.baskets.tolist() == [3, 2, 3, 1, 0]
    assert rows(together) == {
        0: [(2, 2 / 3), (1, 1 / 3)],
        1: [(2, 2 / 2), (0, 1 / 2)],
        2: [(0, 2 / 3), (1, 2 / 3)],
    }


def test_a_baskets_time_runs_from_its_first_purchase() -> None:
    # 0 and 1 in one basket; 2 comes a day and a bit after 0, and begins the next, with 3.
    log = purchases([(0, 0, 0), (0, 1, 20), (0, 2, 24.1), (0, 3, 44)], items=4)
    found = rows(count_bought_together(log, 24 * HOUR))
    assert {item: [at for at, _ in others] for item, others in found.items()} == {
        0: [1], 1: [0], 2: [3], 3: [2],
    }  # fmt: skip
    assert rows(count_bought_together(log, 1 * HOUR)) == {}


@pytest.mark.parametrize("kind", [CLICK, RATING])
def test_only_purchases_count(kind: int) -> None:
    together = count_bought_together(purchases([(0, 0, 0), (0, 1, 0)], 2, kind), HOUR)
    assert rows(together) == {}
    assert together.baskets.tolist() == [0, 0]


def slow_count(log: EventColumns, basket_s: float) -> tuple[Counter[tuple[int, int]], Counter[int]]:
    baskets: list[set[int]] = []
    open_of: dict[int, tuple[float, set[int]]] = {}
    events = zip(log.user.tolist(), log.item.tolist(), log.timestamp.tolist(), strict=True)
    for user, item, at in events:
        if user not in open_of or at > open_of[user][0] + basket_s:
            open_of[user] = at, set()
            baskets.append(open_of[user][1])
        open_of[user][1].add(item)
    pairs = Counter(pair for basket in baskets for pair in permutations(basket, 2))
    return pairs, Counter(item for basket in baskets for item in basket)


@pytest.mark.parametrize("pairs_at_once", [1, 50, 1 << 20])
def test_a_drawn_log_counted_in_pieces_of_any_size(pairs_at_once: int) -> None:
    rng = np.random.default_rng(3)
    hours = np.sort(rng.uniform(0, 400, 600))
    users, items = rng.integers(0, 9, 600).tolist(), rng.integers(0, 30, 600).tolist()
    log = purchases(list(zip(users, items, hours.tolist(), strict=True)), items=30)
    together = count_bought_together(log, 8 * HOUR, pairs_at_once)
    pairs, baskets = slow_count(log, 8 * HOUR)
    assert together.baskets.tolist() == [baskets[item] for item in range(30)]
    of = np.repeat(np.arange(30), np.diff(together.offsets))
    found = zip(of.tolist(), together.items.tolist(), together.counts.tolist(), strict=True)
    assert {(a, b): count for a, b, count in found} == dict(pairs)
    for item in range(30):
        _, shares = together.of(item)
        assert (np.diff(shares) <= 0).all()
        assert ((shares > 0) & (shares <= 1)).all()


def test_the_heaviest_are_kept() -> None:
    # Item 0 with each of 60 others once, in baskets of two, and once more with the last twenty.
    others = [*range(1, 61), *range(41, 61)]
    log = purchases(
        [row for n, other in enumerate(others) for row in ((n, 0, n), (n, other, n))], items=61
    )
    together = count_bought_together(log, HOUR)
    kept, shares = together.of(0)
    assert len(kept) == KEPT
    assert kept[:20].tolist() == list(range(41, 61))
    assert shares[0] == 2 / 80
    assert together.of(60)[0].tolist() == [0]


def test_a_basket_of_very_many_items_tells_nothing() -> None:
    log = purchases([(0, n, 0) for n in range(101)] + [(1, 0, 1), (1, 1, 1)], items=101)
    assert rows(count_bought_together(log, HOUR)) == {0: [(1, 1.0)], 1: [(0, 1.0)]}


def test_saved_and_loaded(tmp_path: Path) -> None:
    together = count_bought_together(purchases([(0, 0, 0), (0, 1, 0)], items=3), HOUR)
    together.save(tmp_path)
    assert rows(BoughtTogether.load(tmp_path, 3)) == rows(together) == {0: [(1, 1)], 1: [(0, 1)]}
    assert len(together.of(99)[0]) == 0
    assert rows(BoughtTogether.nothing(2)) == {}


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("offsets", np.array([0, 1], np.int64), "3 items"),
        ("offsets", np.array([0, 2, 1, 2], np.int64), "does not rise"),
        ("offsets", np.array([0, 1, 2, 3], np.int64), "does not rise"),
        ("items", np.array([1, 3], np.int32), "not"),
        ("items", np.array([-1, 0], np.int32), "not"),
        ("items", np.array([1, 0], np.int64), "int32"),
        ("counts", np.array([0, 1], np.int32), "below 1"),
        ("counts", np.array([2, 1], np.int32), "above"),
        ("counts", np.array([1], np.int32), "counts"),
        ("baskets", np.array([1, 1], np.int32), "3 items"),
        ("baskets", np.array([{}], object), "baskets"),
    ],
    ids=range(11),
)
def test_a_forged_file_is_refused(
    tmp_path: Path, name: str, values: np.ndarray, words: str
) -> None:
    count_bought_together(purchases([(0, 0, 0), (0, 1, 0)], items=3), HOUR).save(tmp_path)
    np.save(tmp_path / f"{name}.npy", values, allow_pickle=True)
    with pytest.raises(ValueError, match=words):
        BoughtTogether.load(tmp_path, 3)
