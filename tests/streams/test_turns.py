"""Batches take turns at a step; behind one that failed none gets through."""

from __future__ import annotations

import asyncio

import pytest

from streams.turns import Turn


async def test_turns_are_taken_in_order() -> None:
    turn, done = Turn(), []

    async def take(number: int) -> None:
        async with turn:
            await asyncio.sleep(0.01 / (1 + number))
            done.append(number)

    await asyncio.gather(*map(take, range(5)))
    assert done == [0, 1, 2, 3, 4]


async def test_behind_a_batch_that_failed_none_has_its_turn() -> None:
    first, second = Turn(), Turn()

    async def fail(at: Turn) -> None:
        async with at:
            await asyncio.sleep(0.01)
            raise KeyError("unforeseen")

    async def fail_later(at: Turn) -> None:
        await at.begin()
        await asyncio.sleep(0.01)
        raise KeyError("unforeseen")

    async def come_behind(at: Turn) -> None:
        async with at:
            pytest.fail("it passed a batch that failed")

    failing = [asyncio.create_task(fail(first)), asyncio.create_task(fail_later(second))]
    await asyncio.sleep(0)
    behind = [asyncio.create_task(come_behind(turn)) for turn in (first, second)]
    assert {type(error) for error in await asyncio.gather(*failing, return_exceptions=True)} == {
        KeyError
    }
    await asyncio.wait(behind, timeout=0.1)
    assert not any(task.done() for task in behind)
    for task in behind:
        task.cancel()
