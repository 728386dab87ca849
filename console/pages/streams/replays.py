"""Replays: a dry run first, then the replay, watched to its end, gone on with, promoted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from console import formats
from console.pages.streams.questions import (
    ANEW,
    Question,
    before_cancel,
    before_promotion,
    before_replay,
    before_resume,
    counted,
    place,
    promotable,
    told_of_dry,
)
from console.visit import Visit
from console.widgets.html import Tag, box, button, text
from console.widgets.parts import Field, Moment
from console.widgets.shared import Nothing, Panel, attempt, badge, confirmed
from headrace_client import HeadraceError
from headrace_client.types import ReplayRequest, ReplayTask

_LOOK_S, _LOOK_AT_MODELS_S = 1.0, 10.0
_OWN = ""
"""The choice of the model that the server has by itself."""
_OPEN = ("QUEUED", "RUNNING")
_KINDS = {"SUCCEEDED": "good", "FAILED": "bad", "RUNNING": "live"}
_LONGEST = 100
"""Characters of a namespace."""
_FASTEST = 1_000_000
"""Records a second that the API takes."""


class Replays:
    """The form, and the replays there have been."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._rows: dict[str, _Row] = {}
        self._tried: tuple[ReplayRequest, str] | None = None
        """What was tried last, and the dry run's id."""
        self._counted: ReplayTask | None = None
        """The dry run at its end."""
        self._models: list[str] = []
        """Those that are offered."""
        panel = Panel(
            visit,
            "Replay",
            note="Reads a window of the log once more. Workers go on; the trainer runs it.",
        )
        panel.body.clear()
        with panel.body:
            self._draw_form()
        self._list = Panel(visit, "Replays", note="Newest first.")
        self._list.body.clear()
        with self._list.body:
            self._none = Nothing("Nobody has asked for a replay.")
            self._root = Tag("ol", "tasks")
        visit.every(_LOOK_S, self._look)
        visit.every(_LOOK_AT_MODELS_S, self._look_at_models)

    def _draw_form(self) -> None:
        with box("form-grid"):
            self._model = Field("Model", kind="select", on_change=self._changed)
            self._model.set_visibility(False)
            self._into = Field(
                "Namespace", value="shadow", hint="Of a shadow; empty: the live state",
                on_change=self._changed,
            )  # fmt: skip
            self._from = Field(
                "From", value="beginning", hint="beginning, or 2026-11-01T00:00Z",
                on_change=self._changed,
            )  # fmt: skip
            self._to = Field(
                "To", value="now", hint="now, or a time likewise", on_change=self._changed
            )
            self._topics = Field(
                "Topics", hint="With commas; empty: all of events", on_change=self._changed
            )
            self._rate = Field(
                "Records a second", kind="number", value="0", hint="At the most; 0: any",
                on_change=self._changed,
            )  # fmt: skip
            self._anew = Field(ANEW, kind="checkbox", value=False, on_change=self._changed)
        self._said = Tag("p", "verdict", "A dry run counts what would be applied.", role="status")
        with box("actions"):
            self._dry_run = button("Dry run", self._try, kind="main")
            self._start = button("Replay …", self._ask)
        self._start.attribute("disabled", True)

    # Asking

    def _changed(self, _: Any) -> None:
        """A dry run of something else says nothing."""
        self._tried = self._counted = None
        self._start.attribute("disabled", True)
        self._said.set_text("A dry run counts what would be applied.")
        self._said.classes(replace="verdict")
        too_long = len(self._into.value.strip()) > _LONGEST
        self._into.set_error(f"At most {_LONGEST} characters" if too_long else "")
        wrong = _number(self._rate.value) is None
        self._rate.set_error(f"It must be a number from 0 to {_FASTEST:,}" if wrong else "")
        self._dry_run.attribute("disabled", True if wrong or too_long else None)

    def _request(self) -> ReplayRequest:
        topics = [each.strip() for each in self._topics.value.split(",") if each.strip()]
        return ReplayRequest(
            model_id=self._model.value or None,
            into=self._into.value.strip() or None,
            from_=self._from.value.strip() or "beginning",
            to=self._to.value.strip() or "now",
            topics=topics or None,
            rate=_number(self._rate.value) or 0.0,
            anew=bool(self._anew.value),
        )

    async def _try(self) -> None:
        request = self._request()
        try:
            task = await self._visit.api.start_replay(
                msgspec.structs.replace(request, dry_run=True)
            )
        except HeadraceError as error:
            self._say(self._visit.failure(error).words, "bad")
            return
        if request != self._request():
            # The form was changed meanwhile: this one says nothing of it.
            return
        self._tried, self._counted = (request, task.id), None
        # Until it has ended: another one would count the same.
        self._dry_run.attribute("disabled", True)
        self._say("The dry run counts …")
        await self._look()

    async def _ask(self) -> None:
        if self._tried is None or self._counted is None:
            return
        request, _ = self._tried
        question = before_replay(request, self._counted)
        if await ask(self._visit, question, lambda: self._visit.api.start_replay(request)):
            # What was counted was counted before it.
            self._changed(None)
            await self._look()

    def _say(self, words: str, kind: str = "") -> None:
        self._said.set_text(words)
        self._said.classes(replace=f"verdict {kind}".strip())

    # Watching

    async def _look_at_models(self) -> None:
        """Offer the models to choose from, where some have topics of their own."""
        found = [each for each in (await self._visit.api.models()).models if each.topics]
        is_one_log = len({tuple(each.topics) for each in found}) < 2
        models = [] if is_one_log else [each.id for each in found if not each.deleted]
        if models == self._models:
            return
        self._models = models
        self._model.set_visibility(bool(models))
        self._model.set_options({_OWN: "the server's own", **{each: each for each in models}})
        if self._model.value not in models:
            self._model.set(_OWN)

    async def _look(self) -> None:
        try:
            replays = (await self._visit.api.replays()).replays
        except HeadraceError as error:
            self._list.tell(self._visit.trouble(error))
            return
        self._list.tell(None)
        self._show(replays)
        if self._tried is not None:
            dry = next((each for each in replays if each.id == self._tried[1]), None)
            if dry is not None:
                self._tell_dry(dry)

    def _tell_dry(self, dry: ReplayTask) -> None:
        self._dry_run.attribute("disabled", True if dry.status in _OPEN else None)
        if dry.status == "SUCCEEDED":
            self._counted = dry
            self._say(told_of_dry(dry), "good")
            self._start.attribute("disabled", None)
        elif dry.status not in _OPEN:
            self._say(dry.error or f"The dry run was {dry.status.lower()}.", "bad")
        elif dry.status == "QUEUED":
            self._say("The dry run waits for the trainer.")
        else:
            self._say(f"The dry run counts: {formats.share(dry.progress, 0)}")

    def _show(self, replays: Sequence[ReplayTask]) -> None:
        self._none.show(not replays)
        for gone in self._rows.keys() - {each.id for each in replays}:
            self._rows.pop(gone).root.delete()
        whole = promotable(replays)
        # From the oldest: each new one goes before those that are there.
        for replay in reversed(replays):
            if replay.id not in self._rows:
                with self._root:
                    self._rows[replay.id] = _Row(self._visit, replay)
                self._rows[replay.id].root.move(target_index=0)
            self._rows[replay.id].show(replay, can_promote=replay.id in whole)


class _Row:
    def __init__(self, visit: Visit, replay: ReplayTask) -> None:
        self._visit = visit
        self._id, self._shown = replay.id, replay
        self._told: tuple[ReplayTask, bool] | None = None
        what = "promotion of" if replay.action == "promote" else "into"
        if replay.dry_run:
            what = "dry run into"
        with Tag("li", "task replay") as self.root:
            with box("task-head"):
                with box("head-words"):
                    self._status = badge("")
                    text(f"{what} {place(replay.into)}", "task-kind")
                    text(replay.model_id, "muted")
                    if replay.action == "replay":
                        text(f"{replay.from_} to {replay.to}", "muted")
                    Moment(replay.created_at)
                with box("task-deeds"):
                    self._cancel = self._deed("Cancel", self._ask_cancel, "danger")
                    self._resume = self._deed("Resume", self._ask_resume)
                    self._promote = self._deed("Promote …", self._ask_promote)
            with box("task-progress"):
                self._bar = Tag(
                    "progress", "", max=1, value=0, aria_label=f"Progress of {self._id}"
                )
                self._step = text("")
            self._words = text("", "muted", tag="p")
            self._error = text("", "task-error", tag="p")

    def _deed(self, name: str, do: Any, kind: str = "") -> Tag:
        label = f"{name.rstrip(' …')} replay {self._id}"
        return button(name, do, kind=f"small quiet {kind}".strip(), label=label)

    def show(self, replay: ReplayTask, *, can_promote: bool) -> None:
        """Show the replay as it is now. `can_promote`: its shadow is still what it made of it."""
        if (replay, can_promote) == self._told:
            return
        self._told, self._shown = (replay, can_promote), replay
        is_open = replay.status in _OPEN
        self._status.set_text(replay.status.lower())
        self._status.classes(replace=f"badge {_KINDS.get(replay.status, '')}".strip())
        self._status.attribute("data-status", replay.status)
        self._bar.attribute("value", replay.progress)
        self._bar.set_visibility(is_open)
        waits = replay.status == "QUEUED"
        self._step.set_text("waits for the trainer" if waits else replay.step)
        self._words.set_text(_words(replay))
        self._error.set_text(replay.error or "")
        self._error.set_visibility(bool(replay.error))
        runs_promotion = replay.action == "promote" and replay.status == "RUNNING"
        self._cancel.set_visibility(is_open and not runs_promotion)
        self._resume.set_visibility(replay.status in ("CANCELLED", "FAILED"))
        self._promote.set_visibility(can_promote)

    async def _ask_cancel(self) -> None:
        api = self._visit.api
        await ask(self._visit, before_cancel(self._shown), lambda: api.cancel_replay(self._id))

    async def _ask_resume(self) -> None:
        api = self._visit.api
        await ask(self._visit, before_resume(self._shown), lambda: api.resume_replay(self._id))

    async def _ask_promote(self) -> None:
        question = before_promotion(self._shown)
        await ask(self._visit, question, lambda: self._visit.api.promote_replay(self._id))


async def ask(visit: Visit, question: Question, do: Callable[[], Awaitable[object]]) -> bool:
    """Ask, and do it if that is wanted; return whether it was done."""
    if not await confirmed(
        visit,
        question.title,
        question.consequence,
        question.verb,
        danger=question.danger,
        undo=question.undo,
    ):
        return False
    return await attempt(visit, do(), lambda _: question.done) is not None


def _words(replay: ReplayTask) -> str:
    total = "" if replay.total is None else f" of {formats.count(replay.total)}"
    parts = [f"{formats.count(replay.records)}{total} records"] if replay.action == "replay" else []
    parts += [counted(replay)] if replay.counts else []
    parts += [f"state hash {replay.state_hash[:16]}…"] if replay.state_hash else []
    if replay.started_at is not None and replay.finished_at is not None:
        parts.append(f"took {formats.duration(replay.finished_at - replay.started_at)}")
    return " · ".join(parts)


def _number(typed: Any) -> float | None:
    try:
        value = float(str(typed).strip() or "0")
    except ValueError:
        return None
    return value if 0 <= value <= _FASTEST else None
