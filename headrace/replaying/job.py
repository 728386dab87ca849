"""`python -m headrace.replaying.job`: runs the oldest replay that waits, in a process of its own.

The trainer starts it, with its settings in the environment, and ends it by closing its standard
input. What a replay needs of processor and memory is neither a server's nor a worker's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import threading
import time

import msgspec
from redis.exceptions import RedisError

from headrace.cancellation import cancel_until_done
from headrace.erasure_log import read_erasures
from headrace.erasures import Erasures
from headrace.errors import HeadraceError
from headrace.known_types import make_types_known
from headrace.logs import configure_logging
from headrace.promote import promote
from headrace.replaying.course import Listener, passed, replay, size
from headrace.replaying.queue import (
    ATTEMPTS,
    LEASE_MS,
    LeaseLapsed,
    ReplayQueue,
    ReplayStatus,
    ReplayTask,
    ended,
)
from headrace.replaying.shadow import ReplayRecord, shadow_settings
from headrace.secrets import without_secrets
from headrace.settings import Settings
from headrace.settings_source import load_settings
from headrace.state import state_hash
from headrace.store import connect

logger = logging.getLogger(__name__)

_TELL_S = 0.5
"""How often it is told how far a replay is."""
_AWAY_S = 0.8 * LEASE_MS / 1000
"""After so long without Redis the lease may be another one's."""


class ReplayCancelled(Exception):
    """Somebody has asked for the replay's end."""


class Job:
    """One replay that was claimed."""

    def __init__(
        self, settings: Settings, queue: ReplayQueue, task: ReplayTask, holder: str
    ) -> None:
        self._settings = settings.of_model(task.model_id)
        self._queue = queue
        self._holder = holder
        self.task = task

    async def run(self) -> None:
        """Run it; whatever comes of it, it says so in the end.

        Raises `LeaseLapsed`, and `redis.exceptions.RedisError` when even that cannot be done.
        """
        work = asyncio.create_task(self._work())
        keeper = asyncio.create_task(self._keep())
        try:
            await asyncio.wait({work, keeper}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await cancel_until_done(work)
                keeper.result()
            work.result()
        except ReplayCancelled:
            await self._end("CANCELLED", "cancelled")
        except (HeadraceError, RedisError, OSError) as exc:
            if isinstance(exc, LeaseLapsed):
                raise
            await self._end("FAILED", self.task.step, without_secrets(str(exc), self._settings))
        except asyncio.CancelledError:
            await self._queue.give_back(self.task.id, self._holder)
            raise
        finally:
            await cancel_until_done(work)
            await cancel_until_done(keeper)

    async def _work(self) -> None:
        if self.task.attempts > ATTEMPTS:
            raise HeadraceError(
                f"{ATTEMPTS} jobs have died at this replay; the trainer's log may say why."
            )
        if self.task.action == "promote":
            await self._promote()
        else:
            await self._replay()

    async def _replay(self) -> None:
        task = self.task
        await replay(self._settings, task.options, Listener(self._begun, self._moved))
        digest = None
        if task.into is not None and not task.dry_run:
            self._note(step="digesting the shadow")
            digest = await self._digest(task.into)
        step = "nothing was written" if task.dry_run else "done"
        await self._end("SUCCEEDED", step, state_hash=digest, progress=1.0)

    async def _digest(self, namespace: str) -> str:
        redis = connect(self._settings)
        try:
            return await state_hash(redis, shadow_settings(self._settings, namespace))
        finally:
            await redis.aclose()

    async def _promote(self) -> None:
        keys: dict[str, int] = {}

        def told(phase: str, more: int) -> None:
            keys[phase] = keys.get(phase, 0) + more
            self._note(step=f"{phase}: {keys[phase]:,} keys")

        await promote(self._settings, self.task.into or "", self._erasures, told)
        await self._end("SUCCEEDED", f"{self.task.into} is the live state", progress=1.0)

    async def _erasures(self) -> Erasures:
        return await asyncio.to_thread(read_erasures, self._settings)

    def _begun(self, record: ReplayRecord, goes_on: bool) -> None:
        # Begun anew once: whoever goes on with it begins where it was left.
        anew = self.task.anew and self.task.dry_run
        self._note(step="replaying", total=size(record), goes_on=goes_on, anew=anew)
        self._moved(record)

    def _moved(self, record: ReplayRecord) -> None:
        done, total = passed(record), self.task.total or 0
        share = min(1.0, done / total) if total else 1.0
        self._note(records=done, progress=share, counts=record.counts)

    def _note(self, **changes: object) -> None:
        self.task = msgspec.structs.replace(self.task, updated_at=time.time(), **changes)

    async def _keep(self) -> None:
        """Tell how far it is, and keep the lease. Raises `ReplayCancelled` or `LeaseLapsed`."""
        heard_at = time.monotonic()
        while True:
            await asyncio.sleep(_TELL_S)
            try:
                await self._queue.save(self.task, self._holder)
                if self.task.action == "replay" and await self._queue.is_cancelled(self.task.id):
                    raise ReplayCancelled
                heard_at = time.monotonic()
            except (RedisError, OSError) as exc:
                logger.warning("how far the replay is cannot be told: %r", exc)
                if time.monotonic() - heard_at > _AWAY_S:
                    raise LeaseLapsed("Redis is away for too long.") from exc

    async def _end(
        self, status: ReplayStatus, step: str, error: str | None = None, **more: object
    ) -> None:
        self._note(**more)
        self.task = ended(self.task, status, step, now=time.time(), error=error)
        await self._queue.finish(self.task, self._holder)
        logger.info("replay %s: %s: %s", self.task.id, status, error or step)


async def run_job(settings: Settings) -> None:
    """Run the oldest replay that waits, if there is one.

    Raises `LeaseLapsed` and `redis.exceptions.RedisError`: another job goes on with it.
    """
    redis = connect(settings)
    queue = ReplayQueue(redis, settings)
    holder = secrets.token_hex(16)
    try:
        task = await queue.claim(holder, now=time.time())
        if task is not None:
            await Job(settings, queue, task, holder).run()
    finally:
        await redis.aclose()


def _end_with_parent() -> None:
    """End this process once whoever started it has closed its standard input."""

    def listen() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()


def main() -> None:
    """Run one replay."""
    settings = load_settings(os.environ)
    configure_logging(settings)
    make_types_known()
    _end_with_parent()
    with contextlib.suppress(LeaseLapsed):
        asyncio.run(run_job(settings))


if __name__ == "__main__":
    main()
