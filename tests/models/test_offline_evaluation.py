from __future__ import annotations

import numpy as np
import pytest
from logs import RATING, columns

from headrace.training_settings import TrainingSettings
from models.retrieval.blend import Blend
from models.retrieval.rules import count_rules


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


def test_ranks_by_hand(evaluation) -> None:  # type: ignore[no-untyped-def]
    # One user; codes 0 … 13 are items 1 … 14. Held out are the last three events. The model lists
    # the lowest items not met: before code 3 they are items 2, 3, 4, …, so item 4 is third; then
    # item 14 comes last of 2, 3, 5, … 14, and at the end item 2 first.
    data = evaluation_data(columns([(0, code, RATING, 5.0) for code in (0, 3, 13, 1)]))
    judge = evaluator(evaluation, data, evaluation.held_out(data, 1), 15)
    assert judge.towers(StandInModel(15)).tolist() == [3, 12, 1]
    # By popularity item 14 is the first; the others are alike, and all of them count as ahead.
    popularity = np.zeros(15, "f4")
    popularity[14] = 1.0
    assert judge.popularity(popularity).tolist() == [13, 1, 11]


def test_what_was_met_stays_where_it_is_wanted(evaluation) -> None:  # type: ignore[no-untyped-def]
    data = evaluation_data(columns([(0, code, RATING, 5.0) for code in (0, 1, 2)]))
    last = np.array([2])
    parameters = TrainingSettings(session_length=4)
    for unseen, rank in ((True, 1), (False, 3)):
        judge = evaluation.Evaluator(data, last, 5, parameters, unseen=unseen)
        assert judge.towers(StandInModel(5)).tolist() == [rank]


def test_blended_by_hand(evaluation) -> None:  # type: ignore[no-untyped-def]
    # Users 0 to 2 went from item 1 to item 4. User 3 has met item 1; item 4 came next.
    rows = [(user, code, RATING, 5.0) for user in range(3) for code in (0, 3)]
    data = evaluation_data(columns([*rows, (3, 0, RATING, 5.0), (3, 3, RATING, 5.0)]))
    judge = evaluator(evaluation, data, np.array([7]), 6)

    def rules():  # type: ignore[no-untyped-def]
        known = evaluation_data(columns(rows))
        return evaluation.RulesSoFar(data, evaluation.rules_of(known, 6), len(rows))

    # Towers: items 2, 3, 4, 5 have logits -2 … -5, item 4 is third. Rules: item 4 with 3/(3 + 1).
    towers, mixed, alone = judge.blended(
        StandInModel(6), rules(), [blend(share) for share in (0.0, 0.5, 1.0)]
    )
    assert (towers.tolist(), mixed.tolist(), alone.tolist()) == ([3], [1], [1])
    of_towers, lists = judge.lists(StandInModel(6), rules(), [blend(0.0), blend(0.5)])
    # All four are listed, item 4 with (e⁻⁴ / Σ + 3/4) / 2.
    softmax = np.exp([-2, -3, -4, -5]) / np.exp([-2, -3, -4, -5]).sum()
    expected = np.log(0.5 * softmax + 0.5 * np.array([0, 0, 0.75, 0]))
    np.testing.assert_allclose(np.sort(lists.scores), np.sort(expected), rtol=1e-5)
    assert lists.came_true.sum() == 1
    assert lists.came_true[lists.scores.argmax()]
    np.testing.assert_allclose(np.sort(of_towers.scores), np.sort(np.log(softmax)), rtol=1e-5)
    third = np.argsort(-of_towers.scores)[2]
    assert of_towers.came_true.nonzero()[0].tolist() == [third]


def test_rules_are_counted_up_to_each_event(evaluation) -> None:  # type: ignore[no-untyped-def]
    # The rule from item 1 to item 4 is there only once user 0 has gone that way.
    log = columns([(0, 0, RATING, 5.0), (0, 3, RATING, 5.0), (1, 0, RATING, 5.0)])
    data = evaluation_data(log)
    none_yet = count_rules(np.zeros(0, np.int32), np.zeros(0, np.int64), 4)
    rules = evaluation.RulesSoFar(data, none_yet, 0)
    one = np.array([0])
    for until, expected in ((1, []), (2, [3])):
        rules.count_until(until)
        assert rules.live.candidates([one], 1.0, 0.0)[0].positions.tolist() == expected


def test_a_user_without_a_session_has_no_list(evaluation) -> None:  # type: ignore[no-untyped-def]
    data = evaluation_data(columns([(0, 0, RATING, 5.0), (1, 13, RATING, 5.0)]))
    judge = evaluator(evaluation, data, np.array([1]), 15)
    rules = evaluation.RulesSoFar(data, evaluation.rules_of(data, 15), 2)
    (lists,) = judge.lists(StandInModel(15), rules, [blend(0.0)])
    assert lists.scores.shape == (0,)


def test_a_user_who_has_met_nearly_all_has_scores_for_what_is_left_alone(evaluation) -> None:  # type: ignore[no-untyped-def]
    data = evaluation_data(columns([(0, item, RATING, 5.0) for item in range(11)]))
    # Of rows 1 … 11, ten are met before the last event: one place of its list's ten is filled.
    judge = evaluator(evaluation, data, np.array([10]), 12)
    rules = evaluation.RulesSoFar(data, evaluation.rules_of(data, 12), 11)
    (lists,) = judge.lists(StandInModel(12), rules, [blend(0.0)])
    # It is sure to come: the logarithm of 1.
    np.testing.assert_allclose(lists.scores, [0.0], atol=1e-6)
    assert lists.came_true.tolist() == [True]


def test_nothing_to_predict(evaluation) -> None:  # type: ignore[no-untyped-def]
    data = evaluation_data(columns([(0, 0, RATING, 5.0)]))
    judge = evaluator(evaluation, data, np.array([], np.int64), 2)
    assert judge.towers(StandInModel(2)).shape == (0,)
    rules = evaluation.RulesSoFar(data, evaluation.rules_of(data, 2), 1)
    (blended,) = judge.blended(StandInModel(2), rules, [blend(0.5)])
    assert blended.shape == (0,)
    (lists,) = judge.lists(StandInModel(2), rules, [blend(0.5)])
    assert lists.scores.shape == (0,)


def test_held_out_are_evenly_spaced_new_targets(evaluation) -> None:  # type: ignore[no-untyped-def]
    log = columns([(n % 2, n // 2, RATING, 5.0) for n in range(20)] + [(0, 0, RATING, 5.0)])
    data = evaluation_data(log)
    every = evaluation.held_out(data, 10)
    assert data.event[every].tolist() == list(range(10, 20))
    assert data.event[evaluation.spaced(every, 100)].tolist() == list(range(10, 20))
    assert data.event[evaluation.spaced(every, 4)].tolist() == [10, 13, 16, 19]


def evaluation_data(log):  # type: ignore[no-untyped-def]
    from models.training.dataset import histories

    return histories(log, TrainingSettings())


def evaluator(evaluation, data, positions, items: int):  # type: ignore[no-untyped-def]
    return evaluation.Evaluator(data, positions, items, TrainingSettings(session_length=4))


def blend(share: float) -> Blend:
    return Blend(rules=share, last=1, decay=1.0, smoothing=1.0, candidates=100)
