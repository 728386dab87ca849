"""Steps that are done whole or not at all."""

from __future__ import annotations

import asyncio

import pytest

from headrace.cancellation import cancel_until_done, to_its_end


class Failed(Exception):
    """What a step fails with."""


async def test_a_step_ends_before_whoever_cancelled_it_goes_on() -> None:
    begun, may_end, done = asyncio.Event(), asyncio.Event(), []

    async def step() -> None:
        begun.set()
        await may_end.wait()
        done.append("step")

    async def steps() -> None:
        await to_its_end(step())
        done.append("what follows")

    running = asyncio.create_task(steps())
    await begun.wait()
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
    assert not running.done()
    may_end.set()
    await cancel_until_done(running)
    assert running.cancelled()
    assert done == ["step"]


async def test_an_outcome_is_handed_on() -> None:
    async def step() -> int:
        return 3

    assert await to_its_end(step()) == 3

    async def failing() -> None:
        raise Failed

    with pytest.raises(Failed):
        await to_its_end(failing())


async def test_one_that_fails_after_it_was_cancelled_is_cancelled() -> None:
    may_end = asyncio.Event()

    async def failing() -> None:
        await may_end.wait()
        raise Failed

    running = asyncio.create_task(to_its_end(failing()))
    await asyncio.sleep(0)
    running.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await running
