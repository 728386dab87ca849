"""The demo's figures."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.local.demo.client import Data, Version
from headrace.local.demo.figures import (
    Durations,
    Figures,
    Hits,
    Rate,
    cumulative_mean,
    percentile,
    rolling_mean,
)
from headrace.tasks import Task


def test_percentiles_are_interpolated_linearly() -> None:
    # Of 1, 2, 3, 4 the median lies half-way between the 2 and the 3.
    assert percentile(np.array([4.0, 1.0, 3.0, 2.0]), 50) == 2.5
    assert percentile(np.array([1.0, 2.0]), 99) == pytest.approx(1.99)
    assert percentile(np.array([]), 50) is None


def test_means() -> None:
    hits = np.array([1.0, 0.0, 1.0, 1.0])
    assert rolling_mean(hits, 2).tolist() == [1.0, 0.5, 0.5, 1.0]
    assert cumulative_mean(hits).tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4])
    assert cumulative_mean(np.array([])).tolist() == []


def test_what_touches_a_training_counts_as_during_it() -> None:
    durations = Durations()
    for at, ms in ((9.0, 500), (9.9, 200), (10.5, 1), (20.0, 1), (20.1, 1)):
        durations.add(at, ms)
    # From 10 to 20 s: not what ended at 9.5, but what began at 9.9 and ended at 10.1.
    assert durations.within([(10.0, 20.0)]).tolist() == [False, True, True, True, False]
    assert not durations.within([]).any()


def test_a_training_that_still_runs_spans_until_now() -> None:
    times = {"created_at": 0.0, "updated_at": 0.0}
    figures = Figures(Hits(0, 0), 0)
    figures.tasks = (
        Task(id="3", model_id="m", **times),
        Task(id="2", model_id="m", started_at=50.0, **times),
        Task(id="1", model_id="m", started_at=10.0, finished_at=20.0, **times),
    )
    assert figures.training_spans(now=60.0) == [(50.0, 60.0), (10.0, 20.0)]


def test_hits_stand_in_the_streams_order_whenever_they_come() -> None:
    hits = Hits(100, 4)
    hits.add(102, model=True)
    hits.add(100, model=False)
    assert hits.model().tolist() == [0.0, 1.0]
    assert hits.baseline("popularity").tolist() == []
    # Of the four events the two that were asked for are compared.
    hits.compare({"popularity": np.array([True, True, False, True])})
    assert hits.baseline("popularity").tolist() == [1.0, 0.0]


def test_a_version_is_live_from_its_first_answer_on() -> None:
    figures = Figures(Hits(0, 0), 0)
    figures.answered_by("a", now=1.0)
    figures.acknowledge(5)
    figures.answered_by("b", now=2.0)
    figures.answered_by("a", now=2.1)  # an answer that was under way
    assert [(swap.version, swap.at, swap.sent) for swap in figures.swaps] == [
        ("a", 1.0, 0),
        ("b", 2.0, 5),
    ]
    assert figures.live is None
    figures.versions = (Version("b", True, Data(5), {}),)
    assert figures.live == figures.versions[0]


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.update(0.0, 0) == 0.0
    assert rate.update(1.0, 100) == 100.0
    assert rate.update(2.0, 300) == 150.0
    # The look at 0 s is more than 3 s old by now: from 1 s on, 500 in 3 s.
    assert rate.update(4.0, 400) == 100.0
