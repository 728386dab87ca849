"""The page: what is live, the versions, the trainings, and the form."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from console.pages.models.changes import answered, before
from console.pages.models.tasks import OPEN, TaskList
from console.pages.models.train_form import TrainForm
from console.pages.models.versions import Deeds, Served, Version, draw_version
from console.visit import Page, Visit
from console.widgets.address import Address
from console.widgets.html import box, button, text
from console.widgets.parts import Field, Moment
from console.widgets.shared import Panel, attempt, badge, confirmed, facts, no_data
from headrace_client import HeadraceError
from headrace_client.types import Evaluation, Model
from headrace_client.types import TaskList as Tasks

_LOOK_S, _LOOK_AT_TASKS_S = 2.0, 1.0
_SHOWN_TASKS = 20


class Models:
    """The state of one open page."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._address = Address(visit.query)
        self._model_id = self._address.query.get("model", "")
        self._model: Model | None = None
        """As it was read last."""
        self._form: TrainForm | None = None
        self._ids: list[str] = []
        self._of_model: list[Panel] = []
        """What there is not of a model that was deleted."""
        self._served: dict[str, Served] = {}
        """By version, where how its lists fared is said."""
        self._fared: dict[str, Evaluation | None] = {}
        self._answered = answered(())
        """Which requests the live version answers."""
        self._unfolded: set[str] = set()
        """Versions of which all is shown."""

    def draw(self) -> None:
        """Draw the page."""
        with box("models-grid"):
            with box("stack"):
                self._live = Panel(self._visit, "Live")
                with self._live.tools:
                    self._choice = Field("Model", kind="select", on_change=self._choose)
                    self._choice.set_visibility(False)
                self._versions = Panel(self._visit, "Versions", note="Newest first.")
                self._of_model.append(self._versions)
            with box("stack"):
                self._queue = Panel(self._visit, "Trainings", note="The newest 20, newest first.")
                self._queue.body.clear()
                with self._queue.body:
                    self._tasks = TaskList(self._visit)
                if self._visit.allows("train"):
                    train = Panel(self._visit, "Train")
                    self._of_model.append(train)
                    train.body.clear()
                    with train.body:
                        self._form = TrainForm(self._visit, lambda: self._model_id)
        self._visit.every(_LOOK_S, self._look)
        self._visit.every(_LOOK_AT_TASKS_S, self._look_at_tasks)

    async def _choose(self, model_id: str) -> None:
        self._model_id = model_id
        self._address.note({"model": model_id})
        # Until it is there, nothing acts on the one before, or tells of it.
        self._live.reset()
        self._versions.reset()
        self._model, self._answered = None, answered(())
        await self._look()

    # Reading

    async def _look(self) -> None:
        model = await self._live.show(self._read_model, self._draw_live)
        if model is None:
            return
        for panel in self._of_model:
            panel.root.set_visibility(not model.deleted)
        if not model.deleted:
            await self._look_at_versions(model.id)

    async def _look_at_versions(self, model_id: str) -> None:
        try:
            found = await self._visit.api.versions(model_id)
        except HeadraceError as error:
            self._versions.tell(self._visit.trouble(error))
            return
        if model_id != self._model_id:
            # Another one was chosen meanwhile.
            return
        self._answered = answered(found.versions)
        self._fared = {"": found.trending}
        for row in found.versions:
            raw = row.pop("evaluation", None)
            self._fared[row["version"]] = raw and msgspec.convert(raw, Evaluation)
        self._versions.draw(found.versions, self._draw_versions)
        self._tell_fared()

    async def _look_at_tasks(self) -> None:
        try:
            found: Tasks = await self._visit.api.tasks(limit=_SHOWN_TASKS)
        except HeadraceError as error:
            self._queue.tell(self._visit.trouble(error))
        else:
            self._queue.tell(None)
            self._tasks.show(found.tasks)
            if self._form is not None:
                own = (each for each in found.tasks if each.model_id == self._model_id)
                self._form.tell_open(next((each for each in own if each.status in OPEN), None))

    async def _read_model(self) -> Model | None:
        models = (await self._visit.api.models()).models
        ids = [each.id for each in models]
        if ids != self._ids:
            self._ids = ids
            if self._model_id not in ids:
                self._model_id = _first(models)
                self._address.note({"model": ""})
            self._choice.set_options({each: each for each in ids})
            self._choice.set(self._model_id)
            self._choice.set_visibility(len(ids) > 1)
        self._model = _find(models, self._model_id)
        return self._model

    # Drawing

    def _draw_live(self, model: Model | None) -> None:
        if model is not None and model.deleted:
            text(
                f"Model {model.id} was deleted: its lists are trending items, and it is trained "
                "no more.",
                "none",
                tag="p",
            )
            return
        if model is None or model.live is None:
            no_data("No version is live: lists are trending items until a training has ended.")
            return
        live = model.live
        with box("live-head"):
            text(live.version, "mono version-name", tag="p")
            if model.pinned:
                badge("pinned", "warn")
        rows: list[tuple[str, Any]] = [("live since", lambda: Moment(live.live_since))]
        rows.append(("why", live.reason))
        rows.append(("a rollback leads to", model.rollback or "nothing: no other one was live"))
        facts(rows)
        if not self._visit.allows("admin"):
            return
        with box("actions start"):
            if model.rollback:
                back = model.rollback
                button("Roll back", lambda: self._roll_back(back), kind="danger")
            if model.pinned:
                button("Unpin", partial(self._unpin, model.pinned))

    def _draw_versions(self, versions: Sequence[Version]) -> None:
        self._served.clear()
        if not versions:
            no_data("The first training makes one.")
            return
        admin = self._visit.allows("admin")
        deeds = Deeds(
            self._activate if admin else None,
            self._pin if admin else None,
            self._delete if admin else None,
        )
        for version in versions:
            served = draw_version(version, before(version, versions), deeds, self._unfolded)
            self._served[version["version"]] = served

    def _tell_fared(self) -> None:
        """Say of each version how its lists fare, where it stands: these change all the time."""
        for name, place in self._served.items():
            place.show(self._fared.get(name))

    # Changing

    async def _activate(self, version: str) -> None:
        model_id = self._model_id
        if await confirmed(
            self._visit,
            "Put this version live?",
            f"{version} answers {self._answered} within a second, without a pause."
            f"{self._told_of_pin(version)}",
            "Activate",
            undo=self._told_of_way_back(version),
        ):
            work = self._visit.api.activate(model_id, version)
            await attempt(self._visit, work, lambda live: f"{live.version} is live.")

    async def _roll_back(self, version: str) -> None:
        model_id = self._model_id
        if await confirmed(
            self._visit,
            "Roll back?",
            f"{version}, which was live before, answers {self._answered} within a second."
            f"{self._told_of_pin(version)}",
            "Roll back",
            undo="Another rollback leads to this one again.",
        ):
            # Somebody else may put another one live while it is asked.
            work = self._visit.api.roll_back(model_id, to=version)
            await attempt(self._visit, work, lambda live: f"{live.version} is live again.")

    async def _pin(self, version: str) -> None:
        model_id = self._model_id
        if await confirmed(
            self._visit,
            "Pin this version?",
            f"{version} is put live and stays so, whatever is trained.{self._told_of_pin(version)}",
            "Pin",
            undo=f"Unpin ends that, and leaves it live. {self._told_of_way_back(version)}".strip(),
        ):
            work = self._visit.api.pin(model_id, version)
            await attempt(self._visit, work, lambda _: f"{version} is pinned.")

    async def _unpin(self, version: str) -> None:
        model_id = self._model_id
        of = f" of model {model_id}" if len(self._ids) > 1 else ""
        if await confirmed(
            self._visit,
            f"Unpin {version}?",
            f"It stays live until the gate accepts a newer version{of}, which goes live by itself.",
            "Unpin",
            undo="Pinning it again keeps it live.",
        ):
            work = self._visit.api.unpin(model_id)
            await attempt(self._visit, work, lambda _: "New versions go live by themselves again.")

    async def _delete(self, version: str) -> None:
        model_id = self._model_id
        leads_to_it = self._model is not None and self._model.rollback == version
        if await confirmed(
            self._visit,
            "Delete this version?",
            f"The files of {version} are deleted within moments; it cannot go live any more."
            + (" A rollback leads to it now, and cannot any more then." if leads_to_it else ""),
            "Delete",
            danger=True,
        ):
            work = self._visit.api.delete_version(model_id, version)
            await attempt(self._visit, work, lambda _: f"{version} is deleted.")

    def _told_of_way_back(self, version: str) -> str:
        """Return how what is live now gets there again once this version is put live instead."""
        live = None if self._model is None else self._model.live
        if live is None or live.version == version:
            return "" if live is not None else "None is live now: there is none to go back to."
        return f"Roll back leads to {live.version} again."

    def _told_of_pin(self, version: str) -> str:
        """Return what becomes of the pin when this version is put live; nothing without a pin."""
        pinned = None if self._model is None else self._model.pinned
        if pinned in (None, version):
            return ""
        return f" {pinned} is pinned: the pin moves along, and {version} stays live instead."


def _find(models: Sequence[Model], model_id: str) -> Model | None:
    return next((each for each in models if each.id == model_id), None)


def _first(models: list[Model]) -> str:
    """Return the model that has a live version, else the first one."""
    with_live = [each.id for each in models if each.live is not None]
    return (with_live or [each.id for each in models] or [""])[0]


def _build(visit: Visit) -> None:
    Models(visit).draw()


PAGE = Page("/models", "Models", "train", _build)
