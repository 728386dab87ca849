"""Running one task: what is trained on, the training in its own process, and what goes live."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec
from redis.exceptions import RedisError

from headrace.artifact_store import ArtifactStore
from headrace.cancellation import cancel_until_done, to_its_end
from headrace.errors import Away, ChangeRefused, HeadraceError, StoreUnavailable
from headrace.secrets import without_secrets
from headrace.settings import Settings
from headrace.signatures import TrustedKeys
from headrace.task_files import (
    TaskWork,
    data_file,
    log_file,
    make_room_for_log,
    remove_files,
    version_of,
)
from headrace.task_reader import Success
from headrace.task_store import Claim, LeaseLost, TaskStore
from headrace.tasks import Status
from headrace.unfinished import delete_unfinished
from headrace.version_store import VersionStore
from headrace.versions import LiveVersion, Manifest
from models.retrieval.versions import check_version
from models.training.admission import Outcome, admit, chosen_since
from models.training.fingerprint import made_with
from models.training.job_messages import Job, Report
from models.training.job_process import JobCrashed, JobProcess, LeftAlone, end_of
from models.training.rendezvous import Announced, Rendezvous
from models.training.task_data import data_of, lists_of, topics_of

logger = logging.getLogger(__name__)

_ATTEMPTS = 5
"""Attempts that may be broken off; it is the task, then."""
_SHARE_S = 2.0


class TaskCancelled(Exception):
    """Somebody has cancelled the task."""


class PeerLost(Away):
    """Another process of a training that is distributed is gone, or could not go on for now."""


class Runner:
    """Runs one task that a trainer has claimed."""

    def __init__(
        self,
        settings: Settings,
        tasks: TaskStore,
        versions: VersionStore,
        claim: Claim,
        clock: Callable[[], float],
        rendezvous: Rendezvous | None = None,
    ) -> None:
        """`rendezvous`: with the other processes, where trainings are distributed."""
        self._settings = settings
        self._tasks = tasks
        self._versions = versions
        self._fence = claim.fence
        self._attempt = claim.attempt
        self._clock = clock
        self._rendezvous = rendezvous
        self._store = ArtifactStore(settings)
        self._version = version_of(claim.task)
        self._log = log_file(settings, claim.task)
        self._work = TaskWork(settings, claim.task.model_id, claim.task.id)
        self._holding = -1
        """The file descriptor by which others of this host know that the task is held."""
        self._logged = -1
        self._shared: Announced | None = None
        """What the other processes run with this one."""
        self.task = claim.task

    async def run(self) -> None:
        """Run the task; whatever comes of it, the task says so in the end.

        Raises `RedisError` or `KafkaError` when even that cannot be done, `Away` before the last
        attempt, and `OSError` where nothing can be written; it is taken again later.
        """
        with contextlib.ExitStack() as until_done:
            held = self._work.held(self._fence)
            self._holding = await asyncio.to_thread(until_done.enter_context, held)
            await self._run_held()

    async def _run_held(self) -> None:
        try:
            # 1. From here on no trainer that had the task before puts anything live.
            await self._versions.fence(self.task.model_id, self._fence)
            await self._hold_lease()
            self._check_attempt()

            # 2. Say what is trained on, which stays so whoever goes on with the task.
            await self._while_held(self._prepare())

            # 3. Train, unless a trainer died between that and putting its version live.
            unchanged = False
            if await self._manifest(self._version) is None:
                unchanged = await self._train()

            # 4. Put a version live.
            await self._while_held(self._keep_last() if unchanged else self._succeed())
        except LeaseLost as exc:
            logger.warning("task %s: %s", self.task.id, exc)
        except TaskCancelled:
            await delete_unfinished(self._versions, self._store, self.task, now=self._clock())
            await self._end("CANCELLED", "cancelled")
        except Away as exc:
            # What it has computed stays, for the next attempt.
            if self._attempt < _ATTEMPTS:
                await self._tell_wait(exc)
                raise
            await self._fail(f"{exc} That was the last of {_ATTEMPTS} attempts; ask again.")
        except HeadraceError as exc:
            await self._fail(str(exc))
        except asyncio.CancelledError:
            await self._tasks.release(self.task, self._fence)
            raise

    async def _manifest(self, version: str) -> Manifest | None:
        return await asyncio.to_thread(self._store.manifest, self.task.model_id, version)

    async def _if_kept(self, version: str) -> Manifest | None:
        """Return the manifest of a version, None where it was deleted."""
        gone = (await self._versions.state(self.task.model_id)).gone
        return None if version in gone else await self._manifest(version)

    def _check_attempt(self) -> None:
        if self._attempt > _ATTEMPTS:
            raise HeadraceError(
                f"{_ATTEMPTS} attempts at this task were broken off: trainers have died at it, or "
                "could not write. Look at their logs, whether the machine has the memory for it, "
                "and at the disk; then ask again."
            )

    async def _prepare(self) -> None:
        data = await data_of(self._settings, self.task)
        if topics_of(self.task.data) != topics_of(data):
            await self._save(step="reading the events", data=data)

    async def _train(self) -> bool:
        """Run the training; return whether there was nothing to train."""
        task, request = self.task, self.task.request
        live = await self._versions.live(task.model_id)
        job = Job(
            model_id=task.model_id,
            version=self._version,
            created_at=task.created_at,
            request=request,
            through=task.data["offsets"],
            topic_ids=task.data["topic_ids"],
            lists=lists_of(task),
            # What a second stage learns takes seconds.
            distributed=self._rendezvous is not None and request.kind != "ranking",
            data=data_file(task),
            work=str(self._work.folder),
            base=live.version if live else None,
            last=None if request.force else await self._last_success(),
        )
        await asyncio.to_thread(make_room_for_log, self._log)
        await self._while_held(asyncio.to_thread(self._work.fetch))
        sharing = asyncio.create_task(_share(self._work))
        try:
            return await self._run(job)
        finally:
            await cancel_until_done(sharing)

    async def _last_success(self) -> Success | None:
        """Return the model's last success, if its version is there, or ops went back from it."""
        last = await self._tasks.last_success(self.task.model_id)
        if last is None or await self._if_kept(last.version) is not None:
            return last
        # What they went back from, and deleted, would be made anew, and go live.
        live = await self._versions.live(self.task.model_id)
        return last if await self._chosen_since(last, live) else None

    async def _chosen_since(self, last: Success, live: LiveVersion | None) -> str | None:
        return None if live is None else await chosen_since(self._versions, live, last.version)

    async def _run(self, job: Job) -> bool:
        """Follow the training's process to its end; return whether there was nothing to train.

        Raises `HeadraceError` when it gave up, `Away` where another attempt may do better,
        `TaskCancelled` or `LeaseLost`.
        """
        process = JobProcess(
            self._settings,
            self._log,
            note=self._note,
            hold=self._hold,
            inherits=(self._holding,),
        )
        try:
            if self._rendezvous is not None and job.distributed:
                self._shared = Announced(f"{self.task.id} {self._fence}", job)
                await self._rendezvous.announce(self._shared)
            return (await process.run(job)).unchanged
        except LeftAlone as exc:
            # The task is taken again.
            raise LeaseLost(self.task) from exc
        except JobCrashed as exc:
            await self._check_others()
            if self._shared is None:
                raise
            # As when a machine is gone, which the others notice and cannot name.
            raise PeerLost(f"{exc} Perhaps another process of the training is gone.") from exc
        finally:
            with contextlib.suppress(RedisError, OSError, LeaseLost):
                if self._rendezvous is not None:
                    await self._rendezvous.withdraw()
                await self._store_log()

    async def _check_others(self) -> None:
        """Raise what another process of the training says that it has failed at."""
        if self._rendezvous is None or self._shared is None:
            return
        failure = await self._rendezvous.failure(self._shared)
        if failure is not None:
            raise (PeerLost if failure.may_pass else HeadraceError)(failure.reason)

    async def _note(self, report: Report) -> None:
        """Store what the training reports."""
        await self._save(
            step=report.step,
            # It goes on from a checkpoint when it is taken again, behind which it reports anew.
            progress=max(self.task.progress, report.fraction),
            metrics={**self.task.metrics, **report.figures},
            data={**self.task.data, **report.data},
        )

    async def _while_held(self, step: Coroutine[Any, Any, None]) -> None:
        """Do a step that may take longer than the lease lasts, and renew it meanwhile.

        Raises what the step and `_hold` raise.
        """
        doing = asyncio.create_task(step)
        try:
            while not doing.done():
                await asyncio.wait({doing}, timeout=self._settings.trainer.lease_s / 3)
                if not doing.done() and self.task.finished_at is None:
                    with contextlib.suppress(RedisError, OSError):
                        await self._hold_lease()
        finally:
            await cancel_until_done(doing)
        doing.result()

    async def _hold(self) -> None:
        """Renew the lease, while the training runs.

        Raises `TaskCancelled`, `LeaseLost`, and what another process of the training failed at.
        """
        await self._hold_lease()
        if self._rendezvous is not None:
            await self._rendezvous.renew()
        await self._store_log()
        await self._check_others()

    async def _hold_lease(self) -> None:
        if await self._tasks.hold(self.task, self._fence) == "cancelled":
            raise TaskCancelled

    async def _store_log(self) -> None:
        """Store the log's end where every server can read it, if there is more of it."""
        try:
            size, end = await asyncio.to_thread(end_of, self._log)
        except OSError as exc:
            # Which says nothing of the lease.
            logger.warning("the log of task %s cannot be read: %s", self.task.id, exc)
            return
        if size != self._logged:
            shown = without_secrets(end, self._settings).encode()
            await self._tasks.save_log(self.task, self._fence, shown)
            self._logged = size

    async def _succeed(self) -> None:
        model_id = self.task.model_id
        # What no server could load must not be announced.
        manifest = await asyncio.to_thread(self._load, self._version)
        await self._commit()
        history = await self._versions.history(model_id)
        if any(each.version == self._version for each in history):
            # A trainer died between this and saying so. What ops have put live since stays.
            now_live = history[0].version
            step = "live" if now_live == self._version else f"went live; {now_live} is since"
            await self._finish(Outcome(step=step), manifest)
            return
        outcome = await admit(
            self._versions,
            manifest,
            reason=f"task {self.task.id}",
            now=self._clock(),
            fence=self._fence,
        )
        await self._finish(outcome, manifest)

    async def _keep_last(self) -> None:
        """End a training that had nothing to train, with the last version live again.

        Unless ops have put another one live since.
        """
        last = await self._tasks.last_success(self.task.model_id)
        if last is None:
            raise HeadraceError("What was trained last is not known any more. Ask again.")
        manifest = await self._if_kept(last.version)
        live = await self._versions.live(self.task.model_id)
        chosen = await self._chosen_since(last, live)
        step = f"nothing new since version {last.version}"
        if manifest is None:
            if not chosen:
                raise HeadraceError("The version of the last training was just deleted. Ask again.")
            step = f"{step}, which was deleted; {chosen}, and it stays so"
            await self._end("SUCCEEDED", step, progress=1.0)
            return
        if chosen:
            step = f"{step}; {chosen}, and it stays so"
        elif live is None or live.version != manifest.version:
            again = await self._live_again(manifest.version, live.version if live else None)
            step = f"{step}, which {again}"
        await self._finish(Outcome(step=step), manifest, trained=False)

    async def _live_again(self, version: str, instead_of: str | None) -> str:
        """Put a version live that was, unless another one is by now; say what came of it."""
        await asyncio.to_thread(self._load, version)
        await self._commit()
        try:
            await self._versions.activate(
                self.task.model_id,
                version,
                now=self._clock(),
                reason=f"task {self.task.id}",
                expected=instead_of,
                unasked=True,
                fence=self._fence,
            )
        except ChangeRefused as exc:
            return f"is kept, not live: {exc}"
        return "is live again"

    def _load(self, version: str) -> Manifest:
        check = partial(TrustedKeys.of(self._settings.versions).check, version)
        return check_version(self._store.fetch(self.task.model_id, version, check), check)

    async def _commit(self) -> None:
        """Say that a version goes live now. Raises `TaskCancelled` or `LeaseLost`."""
        if await self._tasks.hold(self.task, self._fence, commit=True) == "cancelled":
            raise TaskCancelled

    async def _finish(self, outcome: Outcome, manifest: Manifest, *, trained: bool = True) -> None:
        data = msgspec.to_builtins(manifest.data)
        offsets = data.pop("through")
        success = Success(
            version=manifest.version,
            made_with=made_with(self.task.request, self.task.request.parameters(self._settings)),
            mode=manifest.mode,
            data=manifest.data,
        )
        await self._end(
            outcome.status,
            outcome.step,
            trained=trained,
            success=success if outcome.status == "SUCCEEDED" else None,
            error=outcome.error,
            progress=1.0,
            data={"offsets": offsets, **data},
            metrics=manifest.metrics,
            version=manifest.version,
        )

    async def _tell_wait(self, away: Away) -> None:
        words = without_secrets(str(away), self._settings)
        step = f"waits for attempt {self._attempt + 1} of {_ATTEMPTS}: {words}"
        with contextlib.suppress(RedisError, OSError, LeaseLost):
            await self._save(step=step)

    async def _fail(self, error: str) -> None:
        await self._end("FAILED", self.task.step, error=without_secrets(error, self._settings))

    async def _end(
        self,
        status: Status,
        step: str,
        *,
        trained: bool = False,
        success: Success | None = None,
        **changes: Any,
    ) -> None:
        now = self._clock()
        self.task = msgspec.structs.replace(
            self.task, status=status, step=step, updated_at=now, finished_at=now, **changes
        )
        try:
            await self._tasks.finish(self.task, self._fence, trained=trained, success=success)
        except LeaseLost as exc:
            logger.warning("task %s: %s", self.task.id, exc)
            return
        level = logging.ERROR if status == "FAILED" else logging.INFO
        logger.log(level, "task %s: %s: %s", self.task.id, status, self.task.error or step)
        await asyncio.to_thread(remove_files, self._settings, self.task)

    async def _save(self, **changes: Any) -> None:
        self.task = msgspec.structs.replace(self.task, updated_at=self._clock(), **changes)
        await self._tasks.save(self.task, self._fence)


async def _share(work: TaskWork) -> None:
    """Keep what a later attempt goes on from where other machines find it, until cancelled."""
    while True:
        await asyncio.sleep(_SHARE_S)
        try:
            # A thread cannot be ended: it would go on once what it shares has been deleted.
            await to_its_end(asyncio.to_thread(work.share))
        except (StoreUnavailable, OSError) as exc:
            logger.warning("no other machine could go on with this training: %s", exc)
