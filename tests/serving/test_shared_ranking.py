"""Who asks at the same time is ranked together, gets an own list, and suffers for nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from headrace.sessions import Session
from models.retrieval.recommendations import ListRequest
from serving.shared_ranking import SharedRanking


class Ranker:
    """Answers a request with its k, and notes which came together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, asked: Sequence[ListRequest]) -> list[int]:
        self.batches.append([each.k for each in asked])
        return [each.k for each in asked]


def asking(k: int) -> ListRequest:
    return ListRequest(Session(), k)


async def test_who_is_ready_at_the_same_time_is_ranked_together() -> None:
    shared, rank = SharedRanking(), Ranker()
    assert await asyncio.gather(*(shared.rank(rank, asking(k)) for k in range(5))) == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert await shared.rank(rank, asking(7)) == 7
    assert rank.batches == [[0, 1, 2, 3, 4], [7]]


async def test_a_batch_is_bounded_and_others_have_their_turn_in_between() -> None:
    shared, rank, between = SharedRanking(), Ranker(), []

    async def look() -> None:
        while len(rank.batches) < 3:
            between.append(len(rank.batches))
            await asyncio.sleep(0)

    lists, _ = await asyncio.gather(
        asyncio.gather(*(shared.rank(rank, asking(k)) for k in range(40))), look()
    )
    assert lists == list(range(40))
    assert [len(batch) for batch in rank.batches] == [16, 16, 8]
    assert {1, 2} <= set(between)


async def test_each_way_of_ranking_has_its_own_batch() -> None:
    shared, one, other = SharedRanking(), Ranker(), Ranker()
    await asyncio.gather(*(shared.rank((one, other)[k % 2], asking(k)) for k in range(4)))
    assert (one.batches, other.batches) == ([[0, 2]], [[1, 3]])


async def test_a_failure_is_heard_by_the_request_that_it_is_about_and_by_no_other() -> None:
    def fail(asked: Sequence[ListRequest]) -> list[int]:
        if any(each.k == 3 for each in asked):
            raise ValueError(f"{len(asked)} asked")
        return [each.k for each in asked]

    shared, rank = SharedRanking(), Ranker()
    outcomes = await asyncio.gather(
        shared.rank(fail, asking(1)),
        shared.rank(rank, asking(2)),
        shared.rank(fail, asking(3)),
        shared.rank(fail, asking(4)),
        return_exceptions=True,
    )
    assert [str(outcome) for outcome in outcomes] == ["1", "2", "1 asked", "4"]


async def test_who_gives_up_takes_nobody_along() -> None:
    shared, rank = SharedRanking(), Ranker()
    tasks = [asyncio.create_task(shared.rank(rank, asking(k))) for k in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    assert await asyncio.gather(tasks[0], tasks[2]) == [0, 2]
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
