"""Lists as a server gives them, from a version trained on the toy stream."""

from __future__ import annotations

import numpy as np
import pytest
from stand_in import log
from toy import RING, toy_columns

from models.retrieval import Retriever
from models.training.metrics import hr, ranks_in_lists
from models.training.quality.model import Live
from models.training.quality.queries import Queries, histories
from models.training.quality.served import SESSION_LIMIT, Served, session_of

COLUMNS = toy_columns()


@pytest.fixture
def queries() -> Queries:
    """After every user's first four events."""
    data = histories(COLUMNS)
    return data.queries(np.flatnonzero(np.arange(len(data)) == data.first + 4))


def test_the_next_of_the_ring_comes_first(retriever: Retriever, queries: Queries) -> None:
    lists = Served(retriever, COLUMNS.item_ids, seen_stay=False).lists(queries, 3)
    assert lists.items.shape == (60, 3)
    assert ((lists.scores >= 0) & (lists.scores <= 1)).all()
    assert hr(ranks_in_lists(lists.items, lists.scores, queries.target), 1) > 0.8


def test_what_was_seen_is_left_out_unless_it_stays(retriever: Retriever, queries: Queries) -> None:
    every = len(COLUMNS.item_ids)
    left = Served(retriever, COLUMNS.item_ids, seen_stay=False).lists(queries, every)
    # Four of all items are met; their places stay empty.
    assert ((left.items >= 0).sum(axis=1) == every - 4).all()
    stay = Served(retriever, COLUMNS.item_ids, seen_stay=True).lists(queries, every)
    assert (stay.items >= 0).all()


def test_without_a_session_there_are_popular_items(retriever: Retriever) -> None:
    data = histories(COLUMNS)
    nothing = data.queries(data.first[:1])
    lists = Served(retriever, COLUMNS.item_ids, seen_stay=False).lists(nothing, 5)
    ids = [COLUMNS.item_ids[item] for item in lists.items[0].tolist()]
    assert ids == list(retriever.popular[:5])
    assert (np.diff(lists.scores[0]) < 0).all()
    assert lists.scores.max() < 1e-6


def test_rules_learn_a_query_after_it_was_answered(retriever: Retriever) -> None:
    if not retriever.has_rules:
        pytest.fail("the toy's version gives rules no share, so that there is nothing to see")
    # Everyone suddenly jumps from item 0 of the ring to item 6.
    jumps = log(*((user, item) for user in range(30) for item in (0, 6)), items=2 * RING)
    data = histories(jumps)
    asked = data.queries(np.flatnonzero(np.arange(len(data)) > data.first))
    previous = np.full((len(asked), 10), -1, np.int64)
    previous[:, 0] = 0
    served = Served(retriever, COLUMNS.item_ids, seen_stay=False)
    lists = served.lists(asked, 2 * RING, Live(previous))
    ranks = ranks_in_lists(lists.items, lists.scores, asked.target)
    assert ranks[-1] < ranks[0]
    scores = np.where(lists.items == 6, lists.scores, 0).max(axis=1)
    assert scores[-1] > scores[0]


def test_a_session_is_the_dictionary_of_its_events() -> None:
    data = histories(log((0, 3), (0, 1), (0, 3), (0, 2), (1, 1)))
    asked = data.sessions(np.array([0]), np.array([4]), np.array([1], np.int32))
    session = session_of(asked, 0, ["a", "b", "c", "d"])
    # d was met again after b: its newest event stands.
    assert session.item_ids == ("b", "d", "c")
    assert session.timestamps == (1.0, 2.0, 3.0)
    assert session.kinds == ("click",) * 3
    assert session.ratings == (None,) * 3


def test_a_long_session_is_its_newest_items() -> None:
    events = [(0, n) for n in range(SESSION_LIMIT + 5)]
    data = histories(log(*events))
    asked = data.queries(np.array([len(events) - 1]))
    item_ids = [str(n) for n in range(len(events))]
    session = session_of(asked, 0, item_ids)
    assert session.item_ids == tuple(item_ids[4:-1])
