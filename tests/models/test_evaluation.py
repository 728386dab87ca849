from __future__ import annotations

import numpy as np
import pytest
from logs import RATING, columns

from headrace.settings import TrainingSettings


@pytest.fixture(scope="module")
def evaluation():  # type: ignore[no-untyped-def]
    from models.training import evaluation

    return evaluation


class StandInModel:
    """Two-dimensional: everyone likes the items in the order 1, 2, 3, …; item 0 is unknown."""

    def __init__(self, items: int) -> None:
        self.items = items

    def candidate_tower(self, items):  # type: ignore[no-untyped-def]
        from models.training.framework import tf

        scores = -tf.cast(items, tf.float32)
        return tf.stack([scores, tf.zeros_like(scores)], axis=1)

    def queries(self, vectors, features, length):  # type: ignore[no-untyped-def]
        from models.training.framework import tf

        return tf.tile([[1.0, 0.0]], [len(length), 1])


def test_lists_leave_out_what_was_met(evaluation) -> None:  # type: ignore[no-untyped-def]
    top = evaluation.UnseenTopK(np.array([[5], [4], [3], [2]], "f4"))
    top.leave_out(np.array([[0, 0], [1, 1], [1, 2]]))
    _, listed = top(np.array([[1], [1]], "f4"), k=2)
    assert listed.numpy().tolist() == [[1, 2], [0, 3]]


def test_figures_by_hand(evaluation) -> None:  # type: ignore[no-untyped-def]
    # One user; codes 0 … 13 are items 1 … 14. Held out are the last three events. The model lists
    # the lowest items not met: before code 3 they are items 2, 3, 4, …, so item 4 is third; then
    # item 14 is beyond ten (2, 3, 5, … 12), and last item 2 comes first.
    log = columns([(0, code, RATING, 5.0) for code in (0, 3, 13, 1)])
    data = evaluation_data(log)
    positions = evaluation.held_out(data, 1, 100)
    assert positions.tolist() == [1, 2, 3]
    # By popularity item 14 is the first, the others are alike.
    popularity = np.zeros(15, "f4")
    popularity[14] = 1.0
    parameters = TrainingSettings(session_length=4)
    result = evaluation.Evaluator(data, positions, popularity, parameters)(StandInModel(15))
    assert result.events == 3
    assert result.hr == pytest.approx(2 / 3)
    assert result.ndcg == pytest.approx((1 / np.log2(4) + 0 + 1) / 3)
    # Ties go to the lower item, so popularity too finds items 4, 14 and 2.
    assert result.popularity_hr == pytest.approx(1.0)
    assert result.scores.shape == result.came_true.shape == (3 * 10,)
    # The first list is 2 … 11; of the coming events' items 4, 14 and 2 it holds 2 and 4.
    assert np.flatnonzero(result.came_true[:10]).tolist() == [0, 2]


def test_a_user_without_a_session_gets_what_is_popular(evaluation) -> None:  # type: ignore[no-untyped-def]
    log = columns([(0, 0, RATING, 5.0), (1, 13, RATING, 5.0)])
    data = evaluation_data(log)
    popularity = np.zeros(15, "f4")
    popularity[14] = 1.0
    parameters = TrainingSettings(session_length=4)
    result = evaluation.Evaluator(data, np.array([1]), popularity, parameters)(StandInModel(15))
    assert (result.hr, result.ndcg) == (1.0, 1.0)
    assert result.scores.shape == (0,)


def test_a_user_who_has_met_nearly_all_has_scores_for_what_is_left_alone(evaluation) -> None:  # type: ignore[no-untyped-def]
    data = evaluation_data(columns([(0, item, RATING, 5.0) for item in range(11)]))
    parameters = TrainingSettings(session_length=4)
    # Of rows 1 … 11, ten are met before the last event: one place of its list's ten is filled.
    last = np.array([10])
    result = evaluation.Evaluator(data, last, np.zeros(12, "f4"), parameters)(StandInModel(12))
    assert result.scores.tolist() == [-11.0]
    assert result.came_true.tolist() == [True]


def test_nothing_to_predict(evaluation) -> None:  # type: ignore[no-untyped-def]
    data = evaluation_data(columns([(0, 0, RATING, 5.0)]))
    nothing = np.array([], np.int64)
    parameters = TrainingSettings(session_length=4)
    result = evaluation.Evaluator(data, nothing, np.zeros(2, "f4"), parameters)(StandInModel(2))
    assert (result.events, result.hr, result.ndcg) == (0, 0.0, 0.0)


def test_held_out_are_evenly_spaced_new_targets(evaluation) -> None:  # type: ignore[no-untyped-def]
    log = columns([(n % 2, n // 2, RATING, 5.0) for n in range(20)] + [(0, 0, RATING, 5.0)])
    data = evaluation_data(log)
    every = evaluation.held_out(data, 10, 100)
    assert data.event[every].tolist() == list(range(10, 20))
    assert data.event[evaluation.held_out(data, 10, 4)].tolist() == [10, 13, 16, 19]


def evaluation_data(log):  # type: ignore[no-untyped-def]
    from models.training.dataset import histories

    return histories(log, TrainingSettings())
