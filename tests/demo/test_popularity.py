"""The demo's popularity."""

from __future__ import annotations

from headrace.events import Rating
from headrace.local.demo.popularity import popularity_hits


def _ratings(*pairs: str) -> list[Rating]:
    return [
        Rating(event_id=str(number), user_id=pair[0], item_id=pair[1], timestamp=number, rating=3)
        for number, pair in enumerate(pairs)
    ]


def test_by_hand() -> None:
    # Before event 5 the counts are a 3, b 1, c 1; x has seen a and b, y and z have seen a.
    ratings = _ratings("xa", "ya", "za", "xb", "yc", "xc", "yb", "zd", "zb", "zc")
    # k = 1:
    # 5 x→c: unseen by x is c alone                                     → c: a hit
    # 6 y→b: counts a 3, c 2, b 1; unseen by y is b                     → b: a hit
    # 7 z→d: d was never rated, so popularity cannot know it            → a miss
    # 8 z→b: a 3, b 2, c 2, d 1; unseen by z: b, c; equal, b came first → b: a hit
    # 9 z→c: a 3, b 3, c 2, d 1; unseen by z: c                         → c: a hit
    assert popularity_hits(ratings, 5, 1).tolist() == [True, True, False, True, True]


def test_of_equal_counts_the_one_rated_first_comes_first() -> None:
    # z has seen nothing; b and c have one rating each, b the earlier one.
    assert popularity_hits(_ratings("xb", "yc", "zc"), 2, 1).tolist() == [False]
    assert popularity_hits(_ratings("xb", "yc", "zb"), 2, 1).tolist() == [True]
    assert popularity_hits(_ratings("xb", "yc", "zc"), 2, 2).tolist() == [True]


def test_an_item_seen_before_is_no_hit() -> None:
    assert popularity_hits(_ratings("xa", "xa"), 1, 10).tolist() == [False]


def test_only_earlier_ratings_count() -> None:
    assert popularity_hits(_ratings("xa", "yb", "xb", "zb"), 0, 10).tolist() == [
        False,
        False,
        True,
        True,
    ]
