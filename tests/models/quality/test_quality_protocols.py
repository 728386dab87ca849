"""How each protocol splits and feeds, on data worked out by hand, and whole runs of a stand-in."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from stand_in import NextItem, log, ring

from headrace.errors import NothingToTest
from headrace.local.baselines import MISS
from models.training.metrics import hr
from models.training.quality import leave_one_out, periods, stream, tutorial
from models.training.quality.baselines import Popularity, SequentialRules, best_rules, evaluate
from models.training.quality.data import MovieLensColumns, Periods
from models.training.quality.lists import came_true, evaluate_lists
from models.training.quality.model import Lesson, Lists, Live
from models.training.quality.queries import Queries, histories, join, select
from models.training.quality.watch import Watch

A, B, C, D, E = range(5)


def watch() -> Watch:
    return Watch(Console(file=io.StringIO()))


def sessions(queries: Queries) -> list[tuple[list[int], int]]:
    return [
        (queries.item[start:end].tolist(), target)
        for start, end, target in zip(
            queries.start, queries.end, queries.target.tolist(), strict=True
        )
    ]


# What counts


def test_rules_by_hand() -> None:
    # A B C and A C: A→B 1, A→C 1/2 + 1, B→C 1; r(B|A) = 1 / 2.5, r(C|A) = 1.5 / 2.5, r(C|B) = 1.
    data = log((0, A), (0, B), (0, C), (1, A), (1, C), (2, B), (2, A), (2, D))
    learned = select(data, data.user < 2)
    asked = histories(data).queries(np.array([7]))
    assert sessions(asked) == [([B, A], D)]
    # A stands 1 ago, B 2 ago: C gets 0.6 + 1 / 2, B 0.4.
    scores = SequentialRules(learned, 4)(asked)
    assert scores[0] == pytest.approx([0, 0.4, 1.1, 0])
    # What came before counts as what came after: B→A 1, C→A 1.5, C→B 1. A's sum is then 2.5,
    # B's 2, C's 2.5: A gives B 0.4 and C 0.6; B gives C and A 1 / 2, half of it.
    both = SequentialRules(learned, 4, both_ways=True)(asked)
    assert both[0] == pytest.approx([0.25, 0.4, 0.85, 0])


def test_an_empty_session_has_no_rules() -> None:
    data = log((0, A), (0, B), (1, A))
    asked = histories(data).queries(np.array([2]))
    assert SequentialRules(data, 2)(asked).tolist() == [[0, 0]]


def test_seen_items_are_ranked_only_where_they_stay() -> None:
    data = log((0, A), (0, A), (0, B), (1, A), (1, B))
    asked = histories(data).queries(np.array([4]))
    popularity = Popularity(data, 2)
    assert evaluate(popularity, asked, 2, seen_stay=True).tolist() == [2]
    assert evaluate(popularity, asked, 2, seen_stay=False).tolist() == [1]
    again = histories(log((0, A), (0, A))).queries(np.array([1]))
    assert evaluate(popularity, again, 2, seen_stay=False).tolist() == [MISS]


def test_the_better_rules_are_chosen_on_validation() -> None:
    forth = log((0, A), (0, B), (1, C), (1, D))
    asked = log((0, B), (0, A), (1, D), (1, C))
    back = histories(asked).queries(np.array([1, 3]))
    assert best_rules(forth, back, 4, seen_stay=True) == {"both_ways": True}
    ahead = histories(forth).queries(np.array([1, 3]))
    assert best_rules(forth, ahead, 4, seen_stay=True) == {"both_ways": False}


def test_logs_are_joined_one_after_another() -> None:
    joined = join((log((0, A), (0, B), items=2), log((0, B), (1, A))))
    assert joined.user.tolist() == [0, 0, 1, 2]
    assert joined.timestamp.tolist() == [0, 1, 2, 3]
    assert joined.user_ids == ("0-u0", "1-u0", "1-u1")


def test_equal_scores_count_against_a_list_past_its_end_too() -> None:
    class Unsure(NextItem):
        """Lists the right items, all of which it holds for equally probable."""

        def product(self, queries: Queries, k: int, live: Live | None = None) -> Lists:
            lists = super().product(queries, k, live)
            return Lists(lists.items, np.zeros_like(lists.scores))

    asked = leave_one_out.split(ring(3, 10)).test
    for model, found in ((NextItem(0), 1.0), (Unsure(0), 0.0)):
        model.fit(Lesson(ring(3, 10), None, None, 24, seen_stay=True), lambda point: None)
        assert hr(evaluate_lists(model, asked), 20) == found


def test_queries_are_a_log_of_a_user_each() -> None:
    data = histories(log((0, A), (0, B), (1, C), (1, D)))
    # As in the tutorial: sessions up to the end of all that is known, targets from elsewhere.
    asked = data.sessions(np.array([2, 0, 4]), np.array([4, 1, 4]), np.array([A, D, B], np.int32))
    found, targets = asked.as_log(items=3)
    unknown = -1
    assert found.user.tolist() == [0, 0, 0, 1, 1, 2]
    assert found.item.tolist() == [C, unknown, A, A, unknown, B]
    assert targets.tolist() == [2, 4, 5]
    assert found.timestamp[:2].tolist() == [2, 3]


# Leave-one-out


def test_the_last_item_is_the_test_and_the_one_before_validation() -> None:
    # The users' events stand mixed, as in time.
    data = log((0, A), (1, B), (0, B), (0, C), (1, C), (0, D), (1, D), (2, A), (2, B))
    split = leave_one_out.split(data)
    assert split.train.item.tolist() == [A, B, B, A, B]
    assert split.train.user.tolist() == [0, 1, 0, 2, 2]
    assert sessions(split.validation) == [([A, B], C), ([B], C)]
    assert sessions(split.test) == [([A, B, C], D), ([B, C], D)]


def test_leave_one_out_of_a_ring() -> None:
    built: list[NextItem] = []
    result = leave_one_out.run(ring(6, 9), lambda seed: _built(built, seed), [0, 1], watch())
    assert result.counts == {"events": 54, "items": 24, "queries": 6}
    # The next item of the ring, always: a rank of 1 throughout.
    perfect = dict.fromkeys(("hr_at_10", "ndcg_at_10", "recall_at_20", "mrr_at_20"), 1.0)
    assert result.towers == result.product == [perfect, perfect]
    assert result.baselines["sequential_rules"]["hr_at_10"] == 1.0
    assert result.baselines["popularity"]["mrr_at_20"] < 0.5
    assert [model.seed for model in built] == [0, 1]
    (lesson,) = built[0].lessons
    assert len(lesson.log) == 6 * 7
    assert lesson.validation is not None
    assert len(lesson.validation) == 6


def test_without_a_user_of_three_events_nothing_is_trained() -> None:
    data = log((0, A), (0, B), (1, B), (1, C), (2, A))
    built: list[NextItem] = []
    with pytest.raises(NothingToTest, match="the longest history has 2 events; a user needs 3"):
        leave_one_out.run(data, lambda seed: _built(built, seed), [0], watch())
    assert built == []


def test_without_a_model_the_baselines_alone_are_measured() -> None:
    result = leave_one_out.run(ring(6, 9), None, [0], watch())
    assert set(result.baselines) == {"popularity", "sequential_rules"}
    assert result.product == []


# Period by period


def test_every_prefix_of_a_session_and_no_item_never_trained_on() -> None:
    # Session 0 is A B E A, session 1 E C, session 2 C D; E (4) was never trained on, nor was D.
    data = log((0, A), (1, E), (0, B), (0, E), (1, C), (0, A), (2, C), (2, D))
    known = np.array([True, True, True, False])
    asked = periods.prefixes(data, known)
    # E drops out of 0, and leaves 1 and 2, without D, with one item each.
    assert sessions(asked) == [([A], B), ([A, B], A)]


def test_periods_go_on_from_one_another() -> None:
    logs = tuple(
        replace(part, item_ids=tuple("12345"))
        for part in (
            log(*((user, item) for user in range(40) for item in (A, B))),
            log(*((user, item) for user in range(40) for item in (B, C))),
            log((0, B), (0, E), (0, C), (1, D), (1, A)),
        )
    )
    first, second = periods.periods(Periods(logs), np.random.default_rng(3))
    assert (first.items, second.items) == (2, 3)
    assert len(first.past) == 0
    assert len(second.past) == 80
    assert len(second.log) == 160
    # C was not in the first period: only sessions of one item would be left.
    assert len(first.test) == 0
    assert sessions(second.test) == [([B], C)]
    # About a tenth of the 40 sessions is held out, whole ones, and never trained on.
    held_out = 40 - len(first.train) // 2
    assert 1 <= held_out <= 10
    assert sessions(first.validation) == [([A], B)] * held_out
    # The catalogue is known from the start; what was never trained on is not ranked.
    assert first.train.item_ids == logs[0].item_ids


def test_periods_of_a_ring() -> None:
    built: list[NextItem] = []
    data = Periods((ring(30, 6), ring(20, 6), ring(10, 6)))
    result = periods.run(data, lambda seed: _built(built, seed), [0], watch())
    assert result.product[0]["recall_at_20"] == 1.0
    assert result.counts == {"events": 360, "items": 24, "queries": 50 + 100}
    assert [lesson.number for lesson in built[0].lessons] == [0, 1]
    assert built[0].lessons[0].past is None
    past = built[0].lessons[1].past
    assert past is not None
    assert len(past) == 180
    assert len(result.parts["product"]) == 2
    assert result.baselines["sequential_rules"]["mrr_at_20"] == 1.0


def test_a_period_without_a_query_is_in_no_mean_and_is_told() -> None:
    # Of the sessions of period 2 one has a new item alone, the other a known one alone.
    without = replace(log((0, 24), (1, A), (1, 24)), item_ids=(*ring(1, 1).item_ids, "new"))
    data = Periods(
        tuple(
            replace(part, item_ids=without.item_ids)
            for part in (ring(30, 6), ring(20, 6), without, ring(10, 6))
        )
    )
    built: list[NextItem] = []
    result = periods.run(data, lambda seed: _built(built, seed), [0], watch())
    assert result.counts["queries"] == 100 + 50
    for row in ("popularity", "sequential_rules", "towers", "product"):
        first, second, third = result.parts[row]
        assert second == {}
        mean = (first["mrr_at_20"] + third["mrr_at_20"]) / 2
        of_models = {"towers": result.towers, "product": result.product}
        figures = of_models[row][0] if row in of_models else result.baselines[row]
        assert figures["mrr_at_20"] == pytest.approx(mean)
    assert result.product[0]["recall_at_20"] > 0.9
    # What it holds is learned all the same.
    assert [lesson.number for lesson in built[0].lessons] == [0, 1, 2]
    assert result.notes == [
        "The means leave out period 2: no session there has two items that were trained on before."
    ]


def test_periods_that_are_skipped_are_in_the_first_training() -> None:
    data = Periods((ring(30, 6), ring(20, 6), ring(10, 6), ring(10, 6)))
    built: list[NextItem] = []
    result = periods.run(data, lambda seed: _built(built, seed), [0], watch(), skip=1)
    whole = periods.run(data, NextItem, [0], watch())
    assert {row: parts[1:] for row, parts in whole.parts.items()} == result.parts
    first, second = built[0].lessons
    assert (first.number, second.number) == (0, 1)
    assert [len(past) for past in (first.past, second.past) if past] == [180, 180 + 120]
    with pytest.raises(NothingToTest, match="first 3 tests of 3"):
        periods.run(data, NextItem, [0], watch(), skip=3)


def test_without_a_query_in_any_period_nothing_is_trained() -> None:
    new = replace(log((0, 24), (0, 24)), item_ids=tuple(str(n) for n in range(25)))
    data = Periods((replace(ring(30, 6), item_ids=new.item_ids), new))
    built: list[NextItem] = []
    with pytest.raises(NothingToTest, match="two items that were trained on before"):
        periods.run(data, lambda seed: _built(built, seed), [0], watch())
    assert built == []


# The stream


def test_a_user_is_known_from_the_second_event_on() -> None:
    users = np.array([4, 2, 4, 4, 2, 1], np.int32)
    assert stream.known_users(users).tolist() == [False, False, True, True, True, False]


def test_blocks_hold_the_events_of_known_users_and_what_they_may_be_given() -> None:
    data = log((0, A), (1, B), (0, B), (2, C), (1, C), (0, D), (1, A))
    first, second = stream.blocks(data, 2, 3)
    assert (first.start, first.items) == (2, 2)
    # 2 is new at event 3. C came after the first block's beginning: no towers know it.
    assert sessions(first.queries) == [([A], B), ([B], C)]
    assert first.allowed.tolist() == [[False, True], [True, False]]
    assert (second.start, second.items) == (5, 3)
    assert sessions(second.queries) == [([A, B], D), ([B, C], A)]
    assert second.live.previous[:, :3].tolist() == [[B, A, -1], [C, B, -1]]


def test_what_came_true_is_among_the_next_ten_and_positive() -> None:
    events = [(0, n) for n in range(13)] + [(1, 12)]
    data = log(*events)
    rated = replace(data, rating=np.where(data.item == 2, 1.0, 5.0).astype(np.float32))
    # Before event 1 of user 0: its next ten items are 1 … 10; 2 got a 1.
    listed = np.array([[1, 2, 10, 11, -1]], np.int32)
    found = came_true(histories(rated), np.array([1]), listed, 4.0)
    assert found.tolist() == [[True, False, True, False, False]]
    # Without a rating an event is positive; the next user's are another's.
    last = came_true(histories(data), np.array([12]), np.array([[12, 0]], np.int32), 4.0)
    assert last.tolist() == [[True, False]]


def test_stream_of_a_ring() -> None:
    built: list[NextItem] = []
    # 3 users, 20 steps round 24 items: codes are in the order of first events only by user.
    data = _by_first_event(ring(3, 20))
    result = stream.run(data, lambda seed: _built(built, seed), [0], watch(), every=20)
    assert result.counts["queries"] == 48
    assert len(built[0].lessons) == 3
    assert [lesson.items for lesson in built[0].lessons] == sorted(
        lesson.items for lesson in built[0].lessons
    )
    first, later = built[0].lessons[:2]
    # As a retraining, a lesson is the whole log so far, and it is the model's to hold out of it.
    assert (first.validation, later.validation) == (None, None)
    assert (len(first.log), len(later.log)) == (12, 32)
    assert {"popularity", "sequential_rules", "item_knn"} == set(result.baselines)
    assert {"expected_calibration_error", "brier_skill"} <= result.product[0].keys()
    assert len(result.parts["product"]) == len(result.parts["popularity"]) == 3


def test_retrainings_that_are_skipped_are_in_the_first_one() -> None:
    data = _by_first_event(ring(3, 20))
    built: list[NextItem] = []
    result = stream.run(
        data, lambda seed: _built(built, seed), [0], watch(), every=20, at_most=1, skip=1
    )
    whole = stream.run(data, NextItem, [0], watch(), every=20)
    assert result.parts["product"] == whole.parts["product"][1:2]
    assert [(lesson.number, len(lesson.log)) for lesson in built[0].lessons] == [(0, 32)]
    with pytest.raises(NothingToTest, match="60 events have no block after the first 3"):
        stream.run(data, NextItem, [0], watch(), every=20, skip=3)


# The tutorial


def test_the_tutorial_splits_at_random_and_knows_movies_by_title() -> None:
    data = log(*((n % 2, n // 2) for n in range(10)))
    # Items 0 and 3 have the same title; the file's order is the reverse of time.
    movies = MovieLensColumns(data, np.arange(10)[::-1], (), ("x", "y", "z", "x", "w"))
    order = np.array([9, 7, 5, 3, 1, 0, 2, 4, 6, 8])
    split = tutorial.split(movies, order)
    assert split.train.item_ids == ("x", "y", "z", "w")
    # The file's rows 9 7 5 3 1 0 2 4 6 8 are the log's events 0 2 4 6 8 9 7 5 3 1; the first 8 of
    # them are learned, of those 7 trained on. Users 0 and 1 rated in turn, titles as above.
    x, y, z, w = range(4)
    assert split.train.user.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert split.train.item.tolist() == [x, y, z, x, w, w, x]
    assert split.train.timestamp.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert sessions(split.validation) == [([w, x], z)]
    assert sessions(split.test) == [([w, x, z], y), ([w, x, z], x)]


def test_the_shuffle_is_that_of_tensorflow_and_always_the_same() -> None:
    order = tutorial.shuffled(100)
    assert sorted(order.tolist()) == list(range(100))
    assert order.tolist() != list(range(100))
    assert tutorial.shuffled(100).tolist() == order.tolist()


def test_tutorial_of_a_ring() -> None:
    data = ring(20, 10)
    titles = tuple(f"movie {n}" for n in range(24))
    movies = MovieLensColumns(data, np.arange(len(data)), (), titles)
    result = tutorial.run(movies, NextItem, [0], watch())
    assert list(result.product[0]) == ["top_1", "top_5", "top_10", "top_50", "top_100"]
    # With 24 titles 50 places hold them all.
    assert result.product[0]["top_50"] == 1.0
    assert result.baselines["popularity"]["top_50"] == 1.0


def _built(built: list[NextItem], seed: int) -> NextItem:
    built.append(NextItem(seed))
    return built[-1]


def _by_first_event(data):  # type: ignore[no-untyped-def]
    order = {item: code for code, item in enumerate(dict.fromkeys(data.item.tolist()))}
    return replace(data, item=np.array([order[item] for item in data.item.tolist()], np.int32))
