"""A process of a distributed training that is not the chief: it runs the chief's jobs with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from redis.exceptions import RedisError

from headrace.artifact_store import ArtifactStore
from headrace.cancellation import cancel_until_done
from headrace.errors import Away, HeadraceError
from headrace.settings import Settings
from headrace.store import connect
from models.training.beat import Beat
from models.training.cluster_config import ClusterConfig
from models.training.job_messages import Report
from models.training.job_process import JobCrashed, JobProcess, LeftAlone
from models.training.rendezvous import Announced, Failure, Rendezvous

logger = logging.getLogger(__name__)

_LOOK_S = 0.5
"""How often a process that has nothing to do looks for a job."""
_AGAIN_S = 2.0
"""Pause after Redis was away."""


class _Withdrawn(Exception):
    """The chief has ended the job, or begun another."""


class Follower:
    """Runs what the chief announces; takes no tasks, and writes nothing but logs and failures."""

    def __init__(
        self, settings: Settings, config: ClusterConfig, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._redis = connect(settings)
        self._rendezvous = Rendezvous(self._redis, settings, config)
        self._state = f"following {config.addresses[0]}"
        self._beat = Beat(self._redis, settings, clock)
        self._logs = ArtifactStore(settings).local / "logs"
        self._number = config.number
        self._address = config.addresses[config.number]

    async def run(self) -> None:
        """Run until cancelled."""
        beating = asyncio.create_task(self._beat.run(lambda: self._state, dict))
        try:
            await self._follow()
        finally:
            await cancel_until_done(beating)
            await self._redis.aclose()

    async def _follow(self) -> None:
        done = ""
        while True:
            pause = _LOOK_S
            try:
                announced = await self._rendezvous.read()
                if announced is not None and announced.token != done:
                    done = announced.token
                    await self._take_part(announced)
            except (RedisError, OSError) as exc:
                logger.warning("the chief's jobs cannot be read: %r", exc)
                pause = _AGAIN_S
            await asyncio.sleep(pause)

    async def _take_part(self, announced: Announced) -> None:
        async def hold() -> None:
            if not await self._stands(announced):
                raise _Withdrawn

        async def note(report: Report) -> None:
            logger.debug("%s: %.0f %%", report.step, 100 * report.fraction)

        job = announced.job
        log = self._logs / f"{job.version}.{self._number}.log"
        idle, self._state = self._state, f"training {job.model_id}"
        logger.info("version %s of %s: taking part", job.version, job.model_id)
        try:
            await asyncio.to_thread(log.parent.mkdir, parents=True, exist_ok=True)
            await JobProcess(self._settings, log, note=note, hold=hold).run(job)
        except _Withdrawn:
            logger.info("version %s of %s: withdrawn", job.version, job.model_id)
        except LeftAlone:
            logger.warning("version %s of %s: left alone", job.version, job.model_id)
        except (HeadraceError, OSError) as exc:
            await self._tell_why(announced, exc)
        finally:
            self._state = idle

    async def _tell_why(self, announced: Announced, failure: HeadraceError | OSError) -> None:
        """Tell the chief why this process's part failed; its task says so.

        When the chief ends a job its files and the other processes go; what fails then is no fault,
        nor is it when a process ends by itself because another one is gone.
        """
        job = announced.job
        if not await self._stands(announced):
            logger.info("version %s of %s: withdrawn", job.version, job.model_id)
            return
        logger.error("version %s of %s: %s", job.version, job.model_id, failure)
        if isinstance(failure, JobCrashed) and not failure.killed:
            return
        await self._rendezvous.fail(
            Failure(
                token=announced.token,
                reason=f"On {self._address}, process {self._number} of the training: {failure}",
                may_pass=isinstance(failure, (Away, JobCrashed, OSError)),
            )
        )

    async def _stands(self, announced: Announced) -> bool:
        """Return whether the chief still runs this attempt."""
        now = await self._rendezvous.read()
        return now is not None and now.token == announced.token
