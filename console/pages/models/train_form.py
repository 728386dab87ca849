"""The form that asks for a training. Each field is checked as it is typed, by the API's limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import httpx

from console.errors import Trouble
from console.limits import Limit, read_limits
from console.visit import Visit
from console.widgets.html import Tag, box, one_at_a_time, text
from console.widgets.parts import Field
from console.widgets.shared import AGAIN_S, confirmed
from console.widgets.troubles import trouble_card
from headrace_client import HeadraceError, Invalid, TrainingRequest
from headrace_client.types import Task

_SCHEMA = "TrainingRequest"
_FIELDS: Mapping[str, tuple[str, str]] = {
    "epochs": ("Epochs", "At the most; empty: of the settings"),
    "learning_rate": ("Learning rate", "At its peak; empty: of the settings"),
    "train_split_ratio": ("Share to train on", "Of the events, before the hold-out"),
    "seed": ("Seed", "Same data and seed: same version"),
    "from": ("Events from", "2026-11-01T00:00Z; empty: all"),
    "to": ("Events before", "2026-11-30T00:00Z; empty: all"),
    "reason": ("Reason", "Stays with the task"),
}
"""By name in the API: what it is called here, and a hint."""
_NUMBERS = frozenset({"epochs", "learning_rate", "train_split_ratio", "seed"})
_LIMITED = _NUMBERS | {"reason"}
"""Fields whose limits the document has; times are read here."""
_RENAMED = {"from": "from_"}


class TrainForm:
    """The fields, and what is sent."""

    def __init__(
        self, visit: Visit, model_id: Callable[[], str], on_task: Callable[[Task], Any]
    ) -> None:
        self._visit = visit
        self._model_id = model_id
        self._on_task = on_task
        self._limits: Mapping[str, Limit] = {}
        self._fields: dict[str, Field] = {}
        self._wrong: set[str] = set()
        self._root = box()
        with self._root:
            text("Loading …", "none", tag="p")
        visit.run(self._load())

    async def _load(self) -> None:
        while not self._limits:
            try:
                self._limits = await read_limits(self._visit.server, _SCHEMA)
            except (httpx.HTTPError, KeyError, ValueError) as error:
                self._tell(error)
                await asyncio.sleep(AGAIN_S)
        self._root.clear()
        with self._root:
            self._draw()

    def _tell(self, error: Exception) -> None:
        trouble = Trouble(
            f"The limits cannot be read from the server's /openapi.json: {error}",
            "They are asked for again by themselves.",
        )
        self._root.clear()
        with self._root:
            trouble_card(trouble)

    def _draw(self) -> None:
        with Tag("form", "train-form").on("submit.prevent", one_at_a_time(self._send), []):
            with box("train-fields"):
                self._kind = Field("Kind", kind="select", options=self._options("kind"))
                self._kind.set("retrieval")
                modes = {"": "as the settings say", **self._options("mode")}
                self._mode = Field("Mode", kind="select", options=modes)
                for name, (label, hint) in _FIELDS.items():
                    self._fields[name] = self._field(name, label, hint)
            with box("train-ticks"):
                self._force = Field(
                    "Train though nothing has changed", kind="checkbox", value=False
                )
                self._global = Field("Learn from all models' events", kind="checkbox", value=False)
            self._trouble = box()
            with box("actions"):
                self._submit = Tag("button", "button main", "Train …", type="submit")

    def _options(self, name: str) -> dict[str, str]:
        return {each: each for each in self._limits[name].among}

    def _field(self, name: str, label: str, hint: str) -> Field:
        limit = self._limits[name]
        is_number = name in _NUMBERS
        hint = f"{limit.words.capitalize()}. {hint}" if is_number else hint
        return Field(
            label,
            kind="number" if is_number else "text",
            hint=hint,
            on_change=lambda typed: self._check(name, typed),
        )

    def _check(self, name: str, typed: str) -> None:
        """Say at once what is wrong with what is typed."""
        try:
            self._read(name, typed)
        except ValueError as error:
            self._wrong.add(name)
            self._fields[name].set_error(str(error))
        else:
            self._wrong.discard(name)
            self._fields[name].set_error("")
        self._submit.attribute("disabled", True if self._wrong else None)

    def _read(self, name: str, typed: str) -> Any:
        if not typed.strip():
            return None
        return self._limits[name].read(typed) if name in _LIMITED else _time(typed)

    async def _send(self) -> None:
        if self._wrong:
            return
        values = {
            _RENAMED.get(name, name): value
            for name, field in self._fields.items()
            if (value := self._read(name, str(field.value))) is not None
        }
        asked = TrainingRequest(
            kind=self._kind.value,
            mode=self._mode.value or None,
            force=bool(self._force.value),
            global_data=bool(self._global.value),
            requested_by="console",
            **values,
        )
        model_id = self._model_id()
        if not await confirmed(
            self._visit,
            f"Train {model_id}?",
            "A training is put into the queue. When the gate accepts its version, that goes live "
            "by itself, unless another one is pinned.",
            "Train",
            undo="It can be cancelled while it runs, and rolled back once its version is live.",
        ):
            return
        self._trouble.clear()
        try:
            task = await self._visit.api.train(model_id, asked)
        except Invalid as error:
            self._refused(error)
        except HeadraceError as error:
            with self._trouble:
                trouble_card(self._visit.trouble(error))
        else:
            self._visit.toast("The training is in the queue.", "good")
            self._on_task(task)

    def _refused(self, error: Invalid) -> None:
        """Say at each field what the server says of it."""
        for wrong in error.problem.errors:
            if wrong.field in self._fields:
                self._fields[wrong.field].set_error(wrong.reason)
        with self._trouble:
            trouble_card(self._visit.trouble(error))


def _time(typed: str) -> str:
    """Return a time as it was typed. Raises `ValueError` for what is none."""
    words = typed.strip()
    try:
        datetime.fromisoformat(words.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"{words[:40]!r} is no time; write 2026-11-01T00:00Z.") from None
    return words
