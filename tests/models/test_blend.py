"""The mixture of towers and rules, by hand."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.retrieval.blend import Blend, blended_scores, log_normaliser


def test_by_hand() -> None:
    # Candidates of the towers: e^z = 6, 3, 1, together 10. Rules: 0, 1/2, 0, and 1/4 for an item
    # that is not among them, with e^z = 1/2. λ = 1/4:
    # 3/4 · 6/10 = 0.45,  3/4 · 3/10 + 1/4 · 1/2 = 0.35,  3/4 · 1/10 = 0.075,
    # 3/4 · 1/20 + 1/4 · 1/4 = 0.1.
    dots = np.log(np.array([6, 3, 1, 0.5], np.float32))
    normaliser = log_normaliser(dots[:3])
    assert normaliser == pytest.approx(math.log(10))
    scores = blended_scores(dots, np.array([0, 0.5, 0, 0.25]), normaliser, 0.25)
    assert np.exp(scores).tolist() == pytest.approx([0.45, 0.35, 0.075, 0.1])


def test_of_a_cold_item_the_towers_speak_for_the_rules() -> None:
    # As by hand above: 6/10 and 3/10 of the towers. The rules say nothing of the first, and more of
    # the second than the towers do: 3/4 · 3/10 + 1/4 · 1/2.
    dots, said = np.log(np.array([6, 3, 6], np.float32)), np.array([0, 0.5, 0])
    scores = blended_scores(dots, said, math.log(10), 0.25, np.array([True, True, False]))
    assert np.exp(scores).tolist() == pytest.approx([0.6, 0.35, 0.45])


@hypothesis_settings(deadline=None)
@given(st.lists(st.integers(-(2**20), 2**20).map(lambda n: n / 64), min_size=1, max_size=50))
def test_without_a_share_items_rank_as_by_the_towers_alone(values: list[float]) -> None:
    dots = np.array(values, np.float32)
    probabilities = np.linspace(0, 1, len(dots))
    scores = blended_scores(dots, probabilities, log_normaliser(dots), 0.0)
    np.testing.assert_array_equal(
        np.argsort(-scores, kind="stable"), np.argsort(-dots, kind="stable")
    )
    assert np.isfinite(scores).all()


def test_with_the_whole_share_items_rank_by_the_rules_alone() -> None:
    dots = np.array([50, 0, -50], np.float32)
    scores = blended_scores(dots, np.array([0, 0.2, 0.6]), log_normaliser(dots), 1.0)
    assert np.exp(scores).tolist() == pytest.approx([0, 0.2, 0.6])
    assert np.isfinite(scores).all()


def test_of_several_queries_at_once() -> None:
    dots = np.log(np.array([[1, 3], [2, 2]], np.float32))
    normaliser = np.array([[math.log(4)], [math.log(4)]])
    scores = blended_scores(dots, np.array([[0, 0], [1, 0]]), normaliser, 0.5)
    np.testing.assert_allclose(np.exp(scores), [[1 / 8, 3 / 8], [3 / 4, 1 / 4]], rtol=1e-6)


def test_no_candidates() -> None:
    assert log_normaliser(np.zeros(0, np.float32)) == 0.0
    assert len(blended_scores(np.zeros(0, np.float32), np.zeros(0), 0.0, 0.3)) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rules", 1.1),
        ("rules", -0.1),
        ("last", 0),
        ("last", 51),
        ("decay", 0),
        ("smoothing", -1),
        ("candidates", 9),
        ("candidates", 2001),
        ("colour", 1),
    ],
)
def test_values_out_of_their_bounds_are_refused(field: str, value: float) -> None:
    good = {"rules": 0.3, "last": 5, "decay": 0.7, "smoothing": 1.0, "candidates": 200}
    assert msgspec.json.decode(msgspec.json.encode(good), type=Blend).last == 5
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.json.decode(msgspec.json.encode({**good, field: value}), type=Blend)
