"""What users passed over sinks below what they acted on, and nothing else is taken from it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from logs import RATING, columns
from toy import RING, TOY, toy_columns

from headrace.events import EventColumns
from headrace.served_lists import ServedLists
from headrace.training_settings import TrainingSettings
from headrace.versions import ListsSpan
from models.training.choices import ACTED, PASSED, Choices
from models.training.feedback import Feedback
from models.training.kinds import shape_of

SHORT = msgspec.structs.replace(
    TOY, id_dropout=0.0, epochs=2, min_steps=60, final_epochs=0, feedback_weight=2.0
)
SPAN = ListsSpan(topic_id="t", through={"0": 1})


def forked_columns() -> EventColumns:
    """A ring with one world's items from which half of all users skip one at each step."""
    rng = np.random.default_rng(3)
    toy = toy_columns(80, 8)
    steps = rng.integers(1, 3, (8, 80))
    place = np.cumsum(steps, axis=0) + rng.integers(0, RING, 80)
    return replace(toy, item=(place % RING).ravel().astype(np.int32), item_ids=toy.item_ids[:RING])


def lists_of(columns: EventColumns) -> ServedLists:
    """Before each step of one place a list with the next but one on top, which is not taken."""
    order = np.argsort(columns.user, kind="stable")
    user, item = columns.user[order], columns.item[order]
    steps = np.flatnonzero((np.diff(user) == 0) & ((item[1:] - item[:-1]) % RING == 1))
    shown = np.stack([(item[steps] + 2) % RING, item[steps + 1]], axis=1)
    by_time = np.argsort(columns.timestamp[order[steps]], kind="stable")
    return ServedLists(
        user=user[steps][by_time],
        served_at=columns.timestamp[order[steps]][by_time] + 1.0,
        start=np.arange(len(steps) + 1) * 2,
        item=shown[by_time].ravel().astype(np.int32),
        user_ids=columns.user_ids,
        item_ids=columns.item_ids,
    )


def margin(log: EventColumns, feedback: Feedback) -> float:
    """Fit, and return by how much the next item's score is above that of the next but one."""
    from models.training.course import course_by_time
    from models.training.evaluation import item_vectors, session_queries
    from models.training.framework import keras
    from models.training.pipeline import features_of, fit_course

    keras.utils.set_random_seed(0)
    course = course_by_time(log, SHORT, choices=feedback.so_far(log, np.arange(len(log)), SHORT))
    features = features_of(log.item_ids, [])
    model = fit_course(course, features, SHORT, lambda *_, **__: None).model
    data = course.everything
    positions = np.flatnonzero(np.arange(len(data)) - data.first >= 3)
    vectors = item_vectors(model)
    queries = session_queries(model, vectors, data, positions, SHORT.session_length)
    last = data.item[positions - 1] - 1
    scores = queries @ vectors.T
    rows = np.arange(len(positions))
    next_item, next_but_one = (1 + (last + step) % RING for step in (1, 2))
    return float((scores[rows, next_item] - scores[rows, next_but_one]).mean())


def test_what_was_passed_over_sinks_below_what_was_acted_on() -> None:
    log = forked_columns()
    feedback = Feedback.of(lists_of(log), SPAN, log, SHORT)
    assert len(feedback.choices) > 100
    # By the events alone the next but one is at least as likely.
    order = np.argsort(log.user, kind="stable")
    steps = np.diff(log.item[order]) % RING
    same_user = np.diff(log.user[order]) == 0
    assert np.log((steps[same_user] == 1).sum() / (steps[same_user] == 2).sum()) < 0.05
    assert margin(log, feedback) > 0.3


def test_the_loss_is_that_of_the_item_acted_on_among_those_passed_over() -> None:
    from models.training.choice_loss import choice_loss

    # One query (1, 0); scores: acted 2 and 1, the second of which is none; passed 0, 1 and none.
    found = choice_loss(
        np.array([[1.0, 0.0], [1.0, 0.0]], np.float32),
        np.array([[[2.0, 9.0], [1.0, 0.0]]] * 2, np.float32),
        np.array([[[0.0, 9.0], [1.0, 0.0], [5.0, 0.0]]] * 2, np.float32),
        np.array([[True, False], [False, False]]),
        np.array([[True, True, False], [False, False, False]]),
    )
    expected = np.log(np.exp(2.0) + np.exp(0.0) + np.exp(1.0)) - 2.0
    assert float(found) == pytest.approx(expected, rel=1e-6)
    nothing = choice_loss(
        np.ones((1, 2), np.float32), np.ones((1, 1, 2), np.float32),
        np.ones((1, 1, 2), np.float32), np.array([[False]]), np.array([[False]]),
    )  # fmt: skip
    assert float(nothing) == 0.0


def test_each_choice_is_learnt_from_once_an_epoch_where_its_session_ends() -> None:
    from models.training.dataset import histories
    from models.training.inputs import Inputs

    parameters = TrainingSettings(session_length=4, future=1, batch_size=1, context=0.5)
    log = columns([(0, item, RATING, 5) for item in range(11)])
    acted = np.zeros((3, ACTED), np.int32)
    passed = np.zeros((3, PASSED), np.int32)
    acted[:, 0], passed[:, 0] = [11, 12, 13], [21, 22, 23]
    choices = Choices(np.array([0, 4, 10]), acted, passed)
    inputs = Inputs(histories(log, parameters), parameters, choices)
    for seed in range(4):
        batches, _ = inputs.epoch(np.random.default_rng(seed))
        found = [
            (int(item), row.tolist(), below.tolist())
            for batch in batches.as_numpy_iterator()
            for item, row, below in zip(
                batch["items"].ravel(),
                batch["acted"].reshape(-1, ACTED),
                batch["passed"].reshape(-1, PASSED),
                strict=True,
            )
            if row.any()
        ]
        assert sorted((item, row[0], below[0]) for item, row, below in found) == [
            (1, 11, 21), (5, 12, 22), (11, 13, 23)
        ]  # fmt: skip


def test_item_towers_learn_from_the_item_before_the_list() -> None:
    # Sessions: user 0 met 0 and 0 again, which says nothing new, and then 3, which was listed.
    log = columns([(0, 0, RATING, 5), (0, 0, RATING, 5), (0, 3, RATING, 5), (0, 1, RATING, 5)])
    lists = ServedLists(
        user=np.array([0, 0], np.int32),
        served_at=np.array([0.5, 2.5]),
        start=np.array([0, 2, 4]),
        item=np.array([0, 1, 0, 2], np.int32),
        user_ids=("u0",),
        item_ids=("i2", "i3", "i1"),
    )
    log = replace(log, item_ids=("i0", "i1", "i2", "i3"))
    feedback = Feedback.of(lists, SPAN, log, TOY)
    assert feedback.choices.event.tolist() == [0, 2]
    shaped, rows = shape_of("items").rows(log, TOY)
    so_far = feedback.so_far(log, rows, TOY)
    assert [len(so_far(events)) for events in range(len(shaped) + 1)] == [0, 0, 1, 2]
    assert so_far(3).event.tolist() == [0, 1]
