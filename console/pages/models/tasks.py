"""The queue of trainings: a row each, which changes in place, with its log and its cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from console import formats
from console.errors import is_final
from console.visit import Visit
from console.widgets.html import Tag, box, button, text
from console.widgets.parts import Dialog, Moment
from console.widgets.shared import Nothing, attempt, badge, confirmed, opened
from headrace_client import HeadraceError
from headrace_client.types import Task

_KINDS = {
    "SUCCEEDED": "good", "REJECTED": "warn", "FAILED": "bad", "CANCELLED": "", "RUNNING": "live",
    "QUEUED": "",
}  # fmt: skip
OPEN = ("QUEUED", "RUNNING")
"""The states of one that has not ended."""
_LOG_S = 1.0


class TaskList:
    """The newest trainings, newest first."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._rows: dict[str, _Row] = {}
        self._none = Nothing("The form asks for a training.")
        self._root = Tag("ol", "tasks")

    def show(self, tasks: Sequence[Task]) -> None:
        """Show these, and no others."""
        self._none.show(not tasks)
        for gone in self._rows.keys() - {task.id for task in tasks}:
            self._rows.pop(gone).root.delete()
        # From the oldest: each new one goes before those that are there.
        for task in reversed(tasks):
            if task.id not in self._rows:
                with self._root:
                    self._rows[task.id] = _Row(self._visit, task)
                self._rows[task.id].root.move(target_index=0)
            self._rows[task.id].show(task)


class _Row:
    def __init__(self, visit: Visit, task: Task) -> None:
        self._visit = visit
        self._shown: Task | None = None
        self._id = task.id
        with Tag("li", "task") as self.root:
            with box("task-head"):
                with box("head-words"):
                    self._status = badge("")
                    text(task.kind, "task-kind")
                    text(task.model_id, "muted")
                    Moment(task.created_at)
                with box("task-deeds"):
                    button("Log", self._log, kind="small quiet", label=f"Log of {task.id}")
                    self._cancel = button(
                        "Cancel", self._ask_cancel, kind="small quiet danger",
                        label=f"Cancel {task.id}",
                    )  # fmt: skip
            with box("task-progress"):
                self._bar = Tag("progress", "", max=1, value=0, aria_label=f"Progress of {task.id}")
                self._step = text("")
            self._words = text("", "muted", tag="p")
            self._error = text("", "task-error", tag="p")

    def show(self, task: Task) -> None:
        """Show the task as it is now."""
        if task == self._shown:
            return
        self._shown = task
        running = task.status in OPEN
        self._status.set_text(task.status.lower()).classes(
            replace=f"badge {_KINDS[task.status]}".strip()
        )
        self._status.attribute("data-status", task.status)
        self._bar.attribute("value", task.progress)
        self._bar.set_visibility(running)
        self._step.set_text(_step(task))
        self._words.set_text(_words(task))
        self._error.set_text(task.error or "")
        self._error.set_visibility(bool(task.error))
        self._cancel.set_visibility(running and self._visit.allows("train"))

    async def _ask_cancel(self) -> None:
        api = self._visit.api
        if await confirmed(
            self._visit,
            "Cancel this training?",
            "It ends within moments; what it has computed is lost, and no version goes live.",
            "Cancel the training",
            danger=True,
            undo="Another training can be asked for at any time.",
        ):
            await attempt(self._visit, api.cancel(self._id), lambda _: "It is being cancelled.")

    async def _log(self) -> None:
        await show_log(self._visit, self._id, lambda: self._shown)


async def show_log(visit: Visit, task_id: str, now: Callable[[], Task | None]) -> None:
    """Show the end of a training's log, and go on while it runs, until the dialog is closed."""
    closed = asyncio.Event()
    with visit.layer, Dialog("Log of the training", closed.set) as dialog:
        dialog.classes("wide")
        log = Tag("pre", "log", "Loading …", role="region", tabindex="0", aria_label="Log")
        with box("actions"):
            button("Close", closed.set)

    async def follow() -> None:
        goes_on = True
        while goes_on:
            # Before it is read: of one that has ended by then, nothing comes after.
            task = now()
            goes_on = task is not None and task.status in OPEN
            try:
                log.set_text(await visit.api.task_log(task_id) or "Nothing is logged yet.")
            except HeadraceError as error:
                log.set_text(visit.trouble(error).what)
                goes_on = not is_final(error)
            await asyncio.sleep(_LOG_S)

    following = visit.run(follow())
    try:
        async with opened(visit, dialog):
            await closed.wait()
    finally:
        following.cancel()


def _step(task: Task) -> str:
    if task.status == "QUEUED":
        place = f", place {task.queue_position}" if task.queue_position else ""
        return f"waiting{place}"
    if task.status == "RUNNING":
        return f"{formats.share(task.progress, 0)}, {task.step}"
    if task.version and task.status == "SUCCEEDED":
        return f"version {task.version}"
    return task.step if task.status != task.step.upper() else ""


def _words(task: Task) -> str:
    took = None
    if task.started_at is not None:
        took = (task.finished_at or task.updated_at) - task.started_at
    parts = [
        f"asked for by {task.requested_by}" if task.requested_by else "",
        task.reason,
        f"took {formats.duration(took)}" if took is not None and task.finished_at else "",
        formats.events(task.data["events"]) if "events" in task.data else "",
    ]
    return " · ".join(filter(None, parts))
