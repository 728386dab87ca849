from __future__ import annotations

import numpy as np
import pytest
from logs import CLICK, PURCHASE, RATING, columns

from headrace.settings import TrainingSettings


@pytest.fixture(scope="module")
def dataset():  # type: ignore[no-untyped-def]
    from models.training import dataset

    return dataset


NAN = float("nan")


def test_histories_are_users_events_in_time_order(dataset) -> None:  # type: ignore[no-untyped-def]
    log = columns([(1, 0, RATING, 5), (0, 1, RATING, 5), (1, 2, RATING, 5), (0, 0, RATING, 5)])
    data = dataset.histories(log, TrainingSettings())
    assert data.event.tolist() == [1, 3, 0, 2]
    assert data.item.tolist() == [2, 1, 1, 3]
    assert data.first.tolist() == [0, 0, 2, 2]


def test_targets_are_first_positive_events(dataset) -> None:  # type: ignore[no-untyped-def]
    parameters = TrainingSettings(positive_threshold=4.0, click_rating=1.0, purchase_rating=5.0)
    log = columns(
        [
            (0, 0, CLICK, NAN),  # counts as 1: not positive
            (0, 0, PURCHASE, NAN),  # counts as 5: positive, but not new
            (0, 0, RATING, 5),  # positive again
            (0, 1, RATING, 3.9),  # below the threshold
            (0, 2, RATING, 4),  # positive and new
        ]
    )
    data = dataset.histories(log, parameters)
    assert data.is_positive.tolist() == [False, True, True, False, True]
    assert data.is_target.tolist() == [False, True, False, False, True]
    assert data.is_new.tolist() == [True, False, False, True, True]


def test_windows_hold_every_position_once(dataset) -> None:  # type: ignore[no-untyped-def]
    rows = [(0, n % 5, RATING, 5.0) for n in range(23)] + [(1, 0, RATING, 5.0)] * 3
    data = dataset.histories(columns(rows), TrainingSettings())
    for seed in range(5):
        cut = dataset.windows(data, 4, np.random.default_rng(seed))
        fresh = [p for f, e in zip(cut.fresh, cut.end, strict=True) for p in range(f, e)]
        assert sorted(fresh) == list(range(26))
        assert ((cut.end - cut.start) <= 4).all()
        # A window reaches back to the full length, or to its user's first event.
        begins = np.where(cut.end <= 23, 0, 23)
        np.testing.assert_array_equal(cut.start, np.maximum(cut.end - 4, begins))


def test_a_session_is_what_came_before_left_padded(dataset) -> None:  # type: ignore[no-untyped-def]
    log = columns([(0, item, RATING, 5) for item in (3, 1, 4)] + [(1, 2, RATING, 5)])
    data = dataset.histories(log, TrainingSettings())
    session = dataset.sessions_before(data, np.array([0, 2, 3]), 4)
    assert session["items"].tolist() == [[0, 0, 0, 0], [0, 0, 4, 2], [0, 0, 0, 0]]
    assert session["length"].tolist() == [0, 2, 0]
    assert not session["features"][0].any()


def test_targets_are_the_next_positive_events_of_the_same_user(dataset) -> None:  # type: ignore[no-untyped-def]
    parameters = TrainingSettings(session_length=4, future=2, future_decay=0.5, batch_size=1)
    log = columns(
        [
            (0, 0, RATING, 5),
            (0, 1, RATING, 1),  # not positive: an input, no target
            (0, 2, RATING, 5),
            (0, 3, RATING, 5),
            (1, 4, RATING, 5),  # another user's
        ]
    )
    data = dataset.histories(log, parameters)
    batches = list(dataset.training_batches(data, parameters, np.random.default_rng(0)))
    (batch,) = (batch for batch in batches if batch["length"][0] == 4)
    assert batch["items"][0].tolist() == [1, 2, 3, 4]
    assert batch["targets"][0].tolist() == [[3, 4], [3, 4], [4, 0], [0, 0]]
    expected = [[2 / 3, 1 / 3], [2 / 3, 1 / 3], [1, 0], [0, 0]]
    np.testing.assert_allclose(batch["weights"][0], expected, rtol=1e-6)


def test_an_epoch_learns_from_each_position_once(dataset) -> None:  # type: ignore[no-untyped-def]
    parameters = TrainingSettings(session_length=4, future=1, batch_size=1)
    log = columns([(0, item, RATING, 5) for item in range(11)])
    data = dataset.histories(log, parameters)
    for seed in range(5):
        batches = dataset.training_batches(data, parameters, np.random.default_rng(seed))
        learnt = [item for batch in batches for item in batch["targets"].ravel().tolist() if item]
        assert sorted(learnt) == list(range(2, 12))


def test_before_is_the_start_of_the_log(dataset) -> None:  # type: ignore[no-untyped-def]
    log = columns([(0, 0, RATING, 5), (0, 1, RATING, 5), (1, 2, RATING, 5)])
    assert dataset.before(log, 2).item.tolist() == [0, 1]
    assert dataset.before(log, 2).item_ids == log.item_ids
