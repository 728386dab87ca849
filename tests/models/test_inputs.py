from __future__ import annotations

import numpy as np
import pytest
from logs import RATING, columns

from headrace.training_settings import TrainingSettings


@pytest.fixture(scope="module")
def batches_of():  # type: ignore[no-untyped-def]
    from models.training.dataset import histories
    from models.training.inputs import Inputs

    def batches_of(log, parameters, seed=0, least_steps=1):  # type: ignore[no-untyped-def]
        inputs = Inputs(histories(log, parameters), parameters)
        batches, steps = inputs.epoch(np.random.default_rng(seed), least_steps)
        found = list(batches.as_numpy_iterator())
        assert len(found) == steps
        return found

    return batches_of


def test_targets_are_the_next_positive_events_of_the_same_user(batches_of) -> None:  # type: ignore[no-untyped-def]
    parameters = TrainingSettings(session_length=5, future=2, future_decay=0.5, batch_size=1)
    log = columns(
        [
            (0, 0, RATING, 5),
            (0, 1, RATING, 1),  # not positive: an input, no target
            (0, 2, RATING, 5),
            (0, 3, RATING, 5),
            (1, 4, RATING, 5),  # another user's, packed into the same row
        ]
    )
    (batch,) = batches_of(log, parameters)
    assert batch["items"][0].tolist() == [1, 2, 3, 4, 5]
    assert len(set(batch["segment"][0, :4].tolist())) == 1
    assert batch["segment"][0, 4] != batch["segment"][0, 0]
    assert batch["targets"][0].tolist() == [[3, 4], [3, 4], [4, 0], [0, 0], [0, 0]]
    expected = [[2 / 3, 1 / 3], [2 / 3, 1 / 3], [1, 0], [0, 0], [0, 0]]
    np.testing.assert_allclose(batch["weights"][0], expected, rtol=1e-6)


@pytest.mark.parametrize("context", [0.0, 0.5])
def test_an_epoch_learns_from_each_position_once(batches_of, context: float) -> None:  # type: ignore[no-untyped-def]
    parameters = TrainingSettings(session_length=4, future=1, batch_size=1, context=context)
    log = columns([(0, item, RATING, 5) for item in range(11)])
    for seed in range(5):
        batches = batches_of(log, parameters, seed)
        learnt = [item for batch in batches for item in batch["targets"].ravel().tolist() if item]
        # With no context, what begins a window is predicted by the window before.
        assert sorted(learnt) == list(range(2, 12))


def test_padding_holds_nothing(batches_of) -> None:  # type: ignore[no-untyped-def]
    parameters = TrainingSettings(session_length=4, future=1, batch_size=1)
    (batch,) = batches_of(columns([(0, 3, RATING, 5), (0, 4, RATING, 5)]), parameters)
    padding = batch["segment"][0] == 0
    assert padding.sum() == 2
    assert not batch["items"][0, padding].any()
    assert not batch["features"][0, padding].any()
    assert not batch["weights"][0, padding].any()


def test_little_data_is_gone_through_often_enough(batches_of) -> None:  # type: ignore[no-untyped-def]
    parameters = TrainingSettings(session_length=4, future=1, batch_size=2)
    batches = batches_of(columns([(0, 3, RATING, 5), (0, 4, RATING, 5)]), parameters, least_steps=5)
    assert len(batches) == 5
    assert {batch["items"].shape for batch in batches} == {(2, 4)}
