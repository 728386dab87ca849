from __future__ import annotations

import numpy as np
import pytest
from logs import CLICK, PURCHASE, RATING, columns

from headrace.training_settings import TrainingSettings


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


@pytest.mark.parametrize("context", [0, 1, 3])
def test_windows_hold_every_position_once(dataset, context: int) -> None:  # type: ignore[no-untyped-def]
    rows = [(0, n % 5, RATING, 5.0) for n in range(23)] + [(1, 0, RATING, 5.0)] * 3
    data = dataset.histories(columns(rows), TrainingSettings())
    cuts = set()
    for seed in range(8):
        cut = dataset.windows(data, 4, context, np.random.default_rng(seed))
        fresh = [p for f, e in zip(cut.fresh, cut.end, strict=True) for p in range(f, e)]
        assert sorted(fresh) == list(range(26))
        assert ((cut.end - cut.start) <= 4).all()
        # A window reaches back as far as asked, or to its user's first event.
        begins = np.where(cut.end <= 23, 0, 23)
        np.testing.assert_array_equal(cut.start, np.maximum(cut.fresh - context, begins))
        cuts.add(tuple(cut.end.tolist()))
    # A window of four with three of context can be cut in one way alone.
    assert len(cuts) > 1 or context == 3


def test_only_windows_with_new_events_are_gone_through(dataset) -> None:  # type: ignore[no-untyped-def]
    log = columns([(0, 0, RATING, 5), (1, 1, RATING, 5), (0, 2, RATING, 5), (2, 3, RATING, 5)])
    data = dataset.histories(log, TrainingSettings())
    cut = dataset.windows(data, 4, 0, np.random.default_rng(0), since=2)
    # Users 0 and 2 have events from the third on; user 1 stands at position 2 and is left out.
    assert [
        data.event[p] for s, e in zip(cut.start, cut.end, strict=True) for p in range(s, e)
    ] == [
        0,
        2,
        3,
    ]


def test_rows_hold_each_window_whole(dataset) -> None:  # type: ignore[no-untyped-def]
    rows = [(user, n, RATING, 5.0) for user in range(9) for n in range(1 + user % 5)]
    data = dataset.histories(columns(rows), TrainingSettings())
    rng = np.random.default_rng(3)
    cut = dataset.windows(data, 6, 2, rng)
    packed = dataset.rows_of(cut, 6, rng)
    found = []
    for position, segment, fresh in zip(packed.position, packed.segment, packed.fresh, strict=True):
        assert not fresh[segment == 0].any()
        for number in np.unique(segment[segment > 0]):
            among = segment == number
            found.append((position[among].tolist(), fresh[among].sum()))
    expected = [
        (list(range(s, e)), e - f) for s, e, f in zip(cut.start, cut.end, cut.fresh, strict=True)
    ]
    assert sorted(found) == sorted(expected)


def test_a_session_is_what_came_before_left_padded(dataset) -> None:  # type: ignore[no-untyped-def]
    log = columns([(0, item, RATING, 5) for item in (3, 1, 4)] + [(1, 2, RATING, 5)])
    data = dataset.histories(log, TrainingSettings())
    session = dataset.sessions_before(data, np.array([0, 2, 3]), 4)
    assert session["items"].tolist() == [[0, 0, 0, 0], [0, 0, 4, 2], [0, 0, 0, 0]]
    assert session["length"].tolist() == [0, 2, 0]
    assert not session["features"][0].any()


def test_targets_follow_each_position(dataset) -> None:  # type: ignore[no-untyped-def]
    log = columns([(0, 0, RATING, 5), (0, 1, RATING, 1), (0, 2, RATING, 5), (1, 3, RATING, 5)])
    targets = dataset.targets_of(dataset.histories(log, TrainingSettings()))
    assert targets.position.tolist() == [0, 2, 3]
    # Behind position 0 and 1 comes the one at 2; behind 2 another user's; behind 3 none.
    assert targets.following.tolist() == [1, 1, 2, 3]


def test_before_is_the_start_of_the_log(dataset) -> None:  # type: ignore[no-untyped-def]
    log = columns([(0, 0, RATING, 5), (0, 1, RATING, 5), (1, 2, RATING, 5)])
    assert dataset.before(log, 2).item.tolist() == [0, 1]
    assert dataset.before(log, 2).item_ids == log.item_ids
