"""The failure policy: what is dead-lettered, what is waited for, what ends the worker.

- A record that is wrong in itself goes to `dead-letters`; nothing else does.
- A store or broker that is away is waited for, without limit.
- What nobody foresaw ends the process, at once and before anything more is committed; whoever
  supervises it starts it again, and Kafka delivers the batch anew.

No exception may leave an agent: Faust 0.15 would start it again behind the records that it had in
hand, and commit past them. A batch that is being applied when the worker is asked to stop is
finished first, and if it can't be, the process ends without its acknowledgement.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import redis.exceptions
import tenacity
from aiokafka.errors import KafkaError

logger = logging.getLogger(__name__)

AWAY = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    KafkaError,
    OSError,
)
"""What says that a store or the broker is away for now."""
_TAKES_NO_WRITES = ("MISCONF", "-OOM ", "-READONLY ")
"""In errors of no class of their own: the disk is full; a script of Redis 6 met one of `AWAY`."""
_Done = TypeVar("_Done")
_STOP_GRACE_S = 2.0
"""How long a worker that is stopping waits for the batch in hand."""
_MAX_WAIT_S = 5.0
"""Longest pause between two tries of what is away."""


class Patience:
    """Waits for what is away, and tells what that is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waits: dict[str, tuple[str, float]] = {}
        """By what cannot be done, why, and since when."""

    async def wait_out(self, action: Callable[[], Awaitable[_Done]], what: str) -> _Done:
        """Do an idempotent action, again and again with back-off while something is away.

        Return what it comes to.
        """
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(is_away),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=_MAX_WAIT_S),
            before_sleep=lambda state: self._wait(state, what),
        )

        async def tried() -> _Done:
            return await action()

        try:
            return await retrying(tried)
        finally:
            self._waits.pop(what, None)

    @property
    def waits_for(self) -> str | None:
        """What cannot be done for now, why, and for how long; None when nothing is away."""
        if not self._waits:
            return None
        return "; ".join(
            f"{what}: {why}, for {self._clock() - since:.0f} s"
            for what, (why, since) in self._waits.items()
        )

    def _wait(self, state: tenacity.RetryCallState, what: str) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        _, since = self._waits.get(what, ("", self._clock()))
        self._waits[what] = (repr(error), since)
        logger.warning(
            "%s: %s; try %d again in %.1f s", what, _in_words(error), state.attempt_number, pause
        )


def _in_words(error: BaseException | None) -> str:
    """Return an error with what it says, which redis-py's `repr` leaves out."""
    said = isinstance(error, redis.exceptions.RedisError)
    return f"{type(error).__name__}: {error}" if said else repr(error)


def is_away(error: BaseException) -> bool:
    """Return whether the error says that something is away for now."""
    takes_no_writes = isinstance(error, redis.exceptions.ResponseError) and any(
        words in str(error) for words in _TAKES_NO_WRITES
    )
    # So uvloop says that the connection was closed before anybody had noticed.
    closed = isinstance(error, RuntimeError) and "the handler is closed" in str(error)
    return takes_no_writes or closed or isinstance(error, AWAY)


def begin(batch: Awaitable[object]) -> asyncio.Future[object]:
    """Begin the work on a batch; a failure that nobody foresaw ends the process."""
    work = asyncio.ensure_future(batch)
    work.add_done_callback(_end_on_failure)
    return work


async def finish(work: asyncio.Future[object]) -> None:
    """Wait for work that was begun; return only when it is done and may be acknowledged."""
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await let_end(work)
        raise


async def let_end(work: asyncio.Future[object]) -> None:
    """Give work the time to end that a worker has which stops; else end the process."""
    await _wait_stubbornly(work)
    if not work.done() or work.cancelled():
        end_process("the worker stops with a batch that could not be applied; it comes again")


def _end_on_failure(work: asyncio.Future[object]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        logger.error("a batch failed in a way that nobody foresaw", exc_info=error)
        end_process("the worker ends, so that the batch is delivered again")


async def _wait_stubbornly(work: asyncio.Future[object]) -> None:
    """Wait for the work while the grace lasts; being cancelled again does not cut it short."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _STOP_GRACE_S
    while not work.done() and (left := deadline - loop.time()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({work}, timeout=left)


def end_process(reason: str) -> NoReturn:
    """End this process now, with nothing more committed; exit status 70 (EX_SOFTWARE)."""
    logger.critical(reason)
    logging.shutdown()
    os._exit(os.EX_SOFTWARE)


class StopLimit:
    """Ends this process if it takes too long to end by itself."""

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._committed = False

    def begin(self) -> None:
        """Count the seconds from now."""
        self._timer.start()

    def committed(self) -> None:
        """Note that everything is committed: what is left is to take leave of the broker."""
        self._committed = True

    def _end(self) -> None:
        if not self._committed:
            end_process("the worker takes too long to stop; what was not committed comes again")
        logger.info("the broker takes long to let the worker go; everything is committed")
        logging.shutdown()
        os._exit(os.EX_OK)
