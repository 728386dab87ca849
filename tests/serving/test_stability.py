"""Which items change, worked out by hand."""

from __future__ import annotations

import pytest

from serving.schemas.recommendations import Recommendation
from serving.stability import settle


def rows(ids: str) -> list[Recommendation]:
    return [Recommendation(item_id, 0.5) for item_id in ids]


@pytest.mark.parametrize(
    ("wanted", "shown", "changes", "settled"),
    [
        # Nothing has changed, or nothing may.
        ("abc", "abc", 0, "abc"),
        ("def", "abc", 0, "abc"),
        # What stays is in the order wanted now.
        ("cba", "abc", 0, "cba"),
        # The best newcomers come first; of the others the last one shown goes.
        ("dae", "abc", 1, "dab"),
        ("dae", "abc", 2, "dae"),
        ("def", "abc", 2, "dea"),
        ("def", "abc", 9, "def"),
        # b may not be shown any more: its place is filled beyond the number.
        ("def", "ac", 0, "dac"),
        ("def", "ac", 1, "dea"),
        ("ade", "ac", 0, "adc"),
        # There is less to show, or nothing was shown.
        ("d", "abc", 0, "a"),
        ("", "abc", 1, ""),
        ("def", "", 0, "def"),
    ],
)
def test_at_most_so_many_items_change(wanted: str, shown: str, changes: int, settled: str) -> None:
    found = settle(rows(wanted), rows(shown), changes)
    assert "".join(row.id for row in found) == settled


def test_a_row_that_stays_has_its_new_score() -> None:
    assert settle([Recommendation("a", 0.9)], [Recommendation("a", 0.1)], 0) == [
        Recommendation("a", 0.9)
    ]
