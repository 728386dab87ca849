"""The demo's background."""

from __future__ import annotations

import asyncio

import pytest

from headrace.local.demo.background import Background


async def _fail() -> None:
    raise ValueError("as expected")


async def _forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("ended")


async def _three() -> int:
    await asyncio.sleep(0)
    return 3


async def test_what_runs_beside_ends_with_the_block() -> None:
    ended: list[str] = []
    async with Background() as beside:
        beside.start(_forever(ended))
        assert await beside.run(_three()) == 3
        assert not ended
    assert ended == ["ended"]


async def test_a_failure_beside_ends_what_is_waited_for() -> None:
    ended: list[str] = []

    async def beside_a_failure() -> None:
        async with Background() as beside:
            beside.start(_fail())
            await beside.run(_forever(ended))

    with pytest.raises(ValueError, match="as expected"):
        await beside_a_failure()
    assert ended == ["ended"]


async def test_finish_waits_for_all_or_the_first_failure() -> None:
    async with Background() as steps:
        done = [steps.start(_three()), steps.start(_three())]
        await steps.finish()
        assert [step.result() for step in done] == [3, 3]
        steps.start(_fail())
        with pytest.raises(ValueError, match="as expected"):
            await steps.finish()
