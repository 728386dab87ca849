"""What the demo's model is compared with, worked out by hand."""

from __future__ import annotations

from headrace.events import Rating
from headrace.local.demo.baselines import baseline_hits


def _ratings(*pairs: str) -> list[Rating]:
    return [
        Rating(event_id=str(number), user_id=pair[0], item_id=pair[1], timestamp=number, rating=3)
        for number, pair in enumerate(pairs)
    ]


def test_popularity_by_hand() -> None:
    # Before event 5 the counts are a 3, b 1, c 1; x has seen a and b, y and z have seen a.
    ratings = _ratings("xa", "ya", "za", "xb", "yc", "xc", "yb", "zd", "zb", "zc")
    # k = 1:
    # 5 x→c: unseen by x is c alone                                  → c: a hit
    # 6 y→b: counts a 3, c 2, b 1; unseen by y is b                  → b: a hit
    # 7 z→d: d was never rated, so popularity cannot know it         → a miss
    # 8 z→b: a 3, b 2, c 2, d 1; unseen by z: b, c, which are equal  → a miss
    # 9 z→c: a 3, b 3, c 2, d 1; unseen by z: c                      → c: a hit
    hits = baseline_hits(ratings, 5, 1)
    assert hits["popularity"].tolist() == [True, True, False, False, True]


def test_rules_and_neighbours_know_what_goes_with_what() -> None:
    # a and b go together, and so do c and d; e is the most popular.
    learned = ("xa", "xb", "yc", "yd", "ue", "ve", "we", "oe")
    hits = baseline_hits(_ratings(*learned, "za", "zb", "pc", "pd"), len(learned), 1)
    # za and pc are their users' first; zb and pd follow the rules.
    assert hits["rules"].tolist() == [False, True, False, True]
    assert hits["knn"].tolist() == [False, True, False, True]
    assert hits["popularity"].tolist() == [False, False, False, False]


def test_only_earlier_ratings_count_and_what_was_seen_is_no_hit() -> None:
    hits = baseline_hits(_ratings("xa", "yb", "xb", "zb", "zb"), 0, 10)
    assert hits["popularity"].tolist() == [False, False, True, True, False]
