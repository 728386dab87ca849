"""The watchdog, with a clock of the test's own: what stands still, and what has nothing to do."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.settings import Settings
from headrace.topics import Place, TopicId, Topics
from streams.chores import Chores
from streams.failure import Patience
from streams.progress import Progress
from streams.watchdog import Watchdog

PATIENCE_S = 60.0
A, B = Place("clicks", "id", 0), Place("ratings", "id", 1)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watchdog(clock: Clock) -> Watchdog:
    return Watchdog(PATIENCE_S, clock)


def test_a_partition_that_lags_and_does_not_move_is_named(watchdog: Watchdog, clock: Clock) -> None:
    for _ in range(2):
        assert watchdog.look({A: 5}, {A: 12}) is None
        clock.now += PATIENCE_S / 2
    assert watchdog.look({A: 5}, {A: 13}) == (
        "clicks/0 stands still at 5 with 8 records to read, for 60 s"
    )


def test_one_without_a_position_stands_at_the_beginning(watchdog: Watchdog, clock: Clock) -> None:
    for _ in range(2):
        assert watchdog.look({}, {A: 3}) is None
        clock.now += PATIENCE_S / 2
    assert "stands still at 0 with 3 records" in (watchdog.look({}, {A: 3}) or "")


def test_each_move_is_waited_from_anew(watchdog: Watchdog, clock: Clock) -> None:
    for position in range(20):
        assert watchdog.look({A: position}, {A: 100}) is None
        clock.now += PATIENCE_S - 1


def test_what_is_read_to_its_end_has_nothing_to_do(watchdog: Watchdog, clock: Clock) -> None:
    for _ in range(3):
        assert watchdog.look({A: 7}, {A: 7}) is None
        clock.now += PATIENCE_S - 1
    # Counted from when there is more to read, not from the last move.
    assert watchdog.look({A: 7}, {A: 8}) is None
    clock.now += PATIENCE_S - 1
    assert watchdog.look({A: 7}, {A: 8}) is None


def test_one_that_moves_does_not_excuse_another(watchdog: Watchdog, clock: Clock) -> None:
    for position in range(4):
        clock.now += PATIENCE_S / 3
        said = watchdog.look({A: position, B: 2}, {A: 100, B: 9})
    assert said is not None
    assert said.startswith("ratings/1 stands still at 2")


def test_what_it_does_not_answer_for_any_more_begins_anew(watchdog: Watchdog, clock: Clock) -> None:
    assert watchdog.look({A: 5}, {A: 12}) is None
    clock.now += PATIENCE_S - 1
    assert watchdog.look({A: 5}, {}) is None
    clock.now += PATIENCE_S - 1
    assert watchdog.look({A: 5}, {A: 12}) is None
    clock.now += PATIENCE_S - 1
    assert watchdog.look({A: 5}, {A: 12}) is None


def test_while_something_is_away_nothing_stands_still(watchdog: Watchdog, clock: Clock) -> None:
    for _ in range(4):
        assert watchdog.look({A: 5}, {A: 12}) is None
        clock.now += PATIENCE_S - 1
        watchdog.excuse()
    assert watchdog.look({A: 5}, {A: 12}) is None


def test_a_process_that_was_held_up_could_move_nothing(watchdog: Watchdog, clock: Clock) -> None:
    assert watchdog.look({A: 5}, {A: 12}) is None
    clock.now += PATIENCE_S
    assert watchdog.look({A: 5}, {A: 12}) is None
    for _ in range(2):
        clock.now += PATIENCE_S / 2
        said = watchdog.look({A: 5}, {A: 12})
    assert said is not None


class Heard(Watchdog):
    """One that ends nothing, and remembers what it would have said."""

    said: str | None = None

    def look(self, positions: Mapping[Place, int], ends: Mapping[Place, int]) -> str | None:
        self.said = super().look(positions, ends)
        return None


async def test_one_that_the_worker_has_lost_moves_as_another_worker_reads_it(clock: Clock) -> None:
    """A worker without partitions answers for all of them, and has old positions of its own."""
    topics = Topics(Settings())
    progress = Progress(topics, {topics.name("clicks"): TopicId(topics.name("clicks"), "id", 1)})
    progress.positions[A] = 100
    stored: dict[Place, int] = {}

    async def read() -> dict[Place, int]:
        return stored

    consumer = SimpleNamespace(started=True, reached={}, assignment=set)
    parts: dict[str, Any] = {
        "app": SimpleNamespace(consumer=consumer),
        "topics": SimpleNamespace(look=lambda: ([], {A: 1_000})),
        "positions": SimpleNamespace(read=read),
        "heartbeats": None,
        "trigger": None,
    }
    watchdog = Heard(PATIENCE_S, clock)
    chores = Chores(**parts, progress=progress, patience=Patience(clock), watchdog=watchdog)
    for position in range(160, 200, 10):
        stored[A] = position
        await chores.check_topics()
        assert watchdog.said is None
        clock.now += PATIENCE_S / 2
    # Where the other one stands still, too, somebody has to say so.
    await chores.check_topics()
    clock.now += PATIENCE_S / 2
    await chores.check_topics()
    assert "stands still at 190" in (watchdog.said or "")
