"""The failure policy, in processes of their own: most of it is about how they end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys

import pytest
import redis.exceptions
import uvloop
from aiokafka.errors import KafkaConnectionError

from streams.failure import Patience, begin, finish, is_away

PRELUDE = """
import asyncio, sys
from streams.failure import begin, finish

async def consume(batch):
    # What Faust does: whatever leaves the agent, the batch is acknowledged.
    try:
        await finish(begin(batch))
    finally:
        print("acknowledged", flush=True)

async def cancel_after(task, seconds, times=1):
    for _ in range(times):
        await asyncio.sleep(seconds)
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("cancelled", flush=True)
"""


def run(code: str) -> tuple[int, list[str], str]:
    """Run the code after the prelude; return the exit status, the printed lines, the log."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout.split(), done.stderr


def test_what_nobody_foresaw_ends_the_process_without_acknowledging() -> None:
    status, printed, log = run("""
async def batch():
    raise KeyError("unforeseen")
asyncio.run(consume(batch()))
""")
    assert (status, printed) == (os.EX_SOFTWARE, [])
    assert "KeyError: 'unforeseen'" in log


def test_a_batch_in_hand_is_finished_when_the_worker_stops() -> None:
    status, printed, _ = run("""
async def batch():
    await asyncio.sleep(0.3)
    print("applied", flush=True)
async def main():
    await cancel_after(asyncio.create_task(consume(batch())), 0.1)
asyncio.run(main())
""")
    assert (status, printed) == (0, ["applied", "acknowledged", "cancelled"])


@pytest.mark.parametrize("times", [1, 3])
def test_a_batch_that_cannot_be_finished_is_not_acknowledged(times: int) -> None:
    status, printed, _ = run(f"""
async def batch():
    await asyncio.sleep(60)
async def main():
    await cancel_after(asyncio.create_task(consume(batch())), 0.1, times={times})
asyncio.run(main())
""")
    assert (status, printed) == (os.EX_SOFTWARE, [])


def test_asked_twice_to_stop_the_batch_in_hand_is_still_finished_first() -> None:
    status, printed, _ = run("""
async def batch():
    await asyncio.sleep(0.5)
    print("applied", flush=True)
async def main():
    await cancel_after(asyncio.create_task(consume(batch())), 0.1, times=3)
asyncio.run(main())
""")
    assert (status, printed) == (0, ["applied", "acknowledged", "cancelled"])


def test_a_batch_that_fails_while_the_worker_stops_is_not_acknowledged() -> None:
    status, printed, _ = run("""
async def batch():
    await asyncio.sleep(0.3)
    raise KeyError("unforeseen")
async def main():
    await cancel_after(asyncio.create_task(consume(batch())), 0.1)
asyncio.run(main())
""")
    assert (status, printed) == (os.EX_SOFTWARE, [])


async def test_a_batch_that_is_done_is_just_done() -> None:
    done = []

    async def batch() -> None:
        await asyncio.sleep(0)
        done.append(True)

    await finish(begin(batch()))
    assert done == [True]


@pytest.mark.parametrize(
    "away",
    [
        redis.exceptions.ConnectionError("gone"),
        redis.exceptions.TimeoutError("slow"),
        redis.exceptions.BusyLoadingError("loading"),
        redis.exceptions.ReadOnlyError("a replica by now"),
        redis.exceptions.OutOfMemoryError("full"),
        redis.exceptions.ClusterDownError("down"),
        redis.exceptions.ResponseError("MISCONF Errors writing to the AOF file"),
        redis.exceptions.ResponseError("Error running script: @user_script: 79: -OOM command not"),
        KafkaConnectionError("gone"),
        ConnectionRefusedError("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_away_is_tried_again(away: Exception) -> None:
    tries = []

    async def action() -> None:
        tries.append(True)
        if len(tries) < 3:
            raise away

    await Patience().wait_out(action, "something cannot be done")
    assert len(tries) == 3


def test_a_connection_that_was_closed_unnoticed_is_away() -> None:
    async def write_after_the_end() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.transport.abort()
            await asyncio.sleep(0.1)
            writer.transport.writelines([b"x"])

    loop = uvloop.new_event_loop()
    with contextlib.closing(loop), pytest.raises(RuntimeError) as raised:
        loop.run_until_complete(write_after_the_end())
    assert is_away(raised.value)
    assert not is_away(RuntimeError("unforeseen"))


@pytest.mark.parametrize(
    "error", [KeyError("unforeseen"), redis.exceptions.ResponseError("ERR a wrong script")]
)
async def test_what_is_no_absence_is_not_tried_again(error: Exception) -> None:
    tries = []

    async def action() -> None:
        tries.append(True)
        raise error

    with pytest.raises(type(error)):
        await Patience().wait_out(action, "something cannot be done")
    assert len(tries) == 1


STUCK = """
import logging, time
from streams.failure import StopLimit
logging.basicConfig(level="INFO")
limit = StopLimit(0.1)
limit.begin()
"""


def test_a_worker_that_takes_too_long_to_stop_ends_as_one_that_failed() -> None:
    status, _, log = run(f"{STUCK}time.sleep(60)")
    assert status == os.EX_SOFTWARE
    assert "takes too long to stop" in log


def test_one_that_has_committed_everything_has_stopped_well() -> None:
    status, _, log = run(f"{STUCK}limit.committed()\ntime.sleep(60)")
    assert status == os.EX_OK
    assert "everything is committed" in log
