"""The form that asks for a training. Each field is checked as it is typed, by the API's limits."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

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
_MODEL = "model_id"
_FIELDS: Mapping[str, tuple[str, str]] = {
    _MODEL: ("Model to train", "Empty: the one shown. Kinds items and ranking are of their own"),
    "epochs": ("Epochs", "At the most; empty: of the settings"),
    "learning_rate": ("Learning rate", "At its peak; empty: of the settings"),
    "train_split_ratio": ("Share to train on", "Of the events, before the hold-out"),
    "seed": ("Seed", "Same data and seed: same version"),
    "from": ("Events from", "2026-11-01T00:00Z or Unix seconds; empty: all"),
    "to": ("Events before", "2026-11-30T00:00Z or Unix seconds; empty: all"),
    "params": ("Other parameters", "One a line: dropout=0.3; 1 and 0 for yes and no"),
    "reason": ("Reason", "Stays with the task"),
}
"""By name in the API: what it is called here, and a hint."""
_NUMBERS = frozenset({"epochs", "learning_rate", "train_split_ratio", "seed"})
_TIMES = frozenset({"from", "to"})
_RENAMED = {"from": "from_"}
_USUAL = ""
"""The choice that leaves something to the server."""
_NO_FEEDBACK = "ranking"
"""The kind that takes no feedback."""


class TrainForm:
    """The fields, and what is sent."""

    def __init__(self, visit: Visit, model_id: Callable[[], str]) -> None:
        self._visit = visit
        self._model_id = model_id
        self._open: Task | None = None
        """The model's training that has not ended: until it has, no other one is taken."""
        self._limits: Mapping[str, Limit] = {}
        self._fields: dict[str, Field] = {}
        self._told: dict[str, str] = {}
        """By field, what is said to be wrong with it."""
        self._root = box()
        with self._root:
            text("Loading …", "none", tag="p")
        visit.run(self._load())

    async def _load(self) -> None:
        told: Trouble | None = None
        while not self._limits:
            try:
                self._limits = await read_limits(self._visit.server, _SCHEMA)
            except HeadraceError as error:
                trouble = self._visit.trouble(error)
                if trouble != told:
                    self._root.clear()
                    with self._root:
                        trouble_card(trouble)
                told = trouble
                await asyncio.sleep(AGAIN_S)
        self._root.clear()
        with self._root:
            self._draw()

    def _draw(self) -> None:
        with Tag("form", "train-form").on("submit.prevent", one_at_a_time(self._send), []):
            with box("train-fields"):
                kinds = {_USUAL: "the model's own", **self._options("kind")}
                self._kind = Field(
                    "Kind", kind="select", options=kinds, value=_USUAL, on_change=self._choose_kind
                )
                self._algorithms = box()
                self._offer_algorithms()
                modes = {_USUAL: "as the settings say", **self._options("mode")}
                self._mode = Field("Mode", kind="select", options=modes)
                for name, (label, hint) in _FIELDS.items():
                    self._fields[name] = self._field(name, label, hint)
            with box("train-ticks"):
                self._force = Field(
                    "Train though nothing has changed", kind="checkbox", value=False
                )
                self._global = Field("Learn from all models' events", kind="checkbox", value=False)
                self._fields["with_feedback"] = Field(
                    "Learn from what users did with the lists they were served", kind="checkbox",
                    value=False, on_change=self._check,
                )  # fmt: skip
            self._trouble = box()
            self._busy = text("", "muted", tag="p").attribute("role", "status")
            with box("actions"):
                self._submit = Tag("button", "button main", "Train …", type="submit")
        self._allow()

    def _options(self, name: str) -> dict[str, str]:
        return {each: each for each in self._limits[name].among}

    def _field(self, name: str, label: str, hint: str) -> Field:
        limit = self._limits[name]
        if name == "params":
            return Field(label, kind="textarea", hint=hint, on_change=self._check)
        is_number = name in _NUMBERS
        hint = f"{limit.words.capitalize()}. {hint}" if is_number else hint
        return Field(
            label, kind="number" if is_number else "text", hint=hint, on_change=self._check
        )

    def _choose_kind(self, _: Any) -> None:
        self._offer_algorithms()
        self._check(None)

    def _offer_algorithms(self) -> None:
        """Offer those of the kind: another kind has others."""
        names = self._limits["algorithm"].by_kind.get(self._kind.value, ())
        options = {_USUAL: "the usual one", **{each: each for each in names}}
        self._algorithms.clear()
        with self._algorithms:
            self._algorithm = Field("Algorithm", kind="select", options=options)

    def _check(self, _: Any) -> None:
        """Say at once what is wrong with what is typed."""
        _, wrong = self._read()
        self._tell(wrong)
        self._allow()

    def tell_open(self, task: Task | None) -> None:
        """Take note of the model's training that waits or runs, None when there is none."""
        self._open = task
        if self._limits:
            self._allow()

    def _allow(self) -> None:
        """Let a training be asked for, or say why none would be taken."""
        task = self._in_the_way
        state = "waits" if task is not None and task.status == "QUEUED" else "runs"
        self._busy.set_text(
            f"A training of {task.model_id} {state}: another one can be asked for once it has "
            "ended or is cancelled."
            if task is not None
            else ""
        )
        self._busy.set_visibility(task is not None)
        self._submit.attribute("disabled", True if self._told or task is not None else None)

    @property
    def _in_the_way(self) -> Task | None:
        """The training that has not ended of the model that is to be trained."""
        of_shown = self._open
        return of_shown if of_shown and of_shown.model_id == self._to_train else None

    @property
    def _to_train(self) -> str:
        return str(self._fields[_MODEL].value).strip() or self._model_id()

    def _tell(self, wrong: Mapping[str, str]) -> None:
        for name in {*self._told, *wrong}:
            if self._told.get(name) != wrong.get(name):
                self._fields[name].set_error(wrong.get(name, ""))
        self._told = dict(wrong)

    def _read(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the fields' values, and by field what is wrong with it."""
        values: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for name in _FIELDS:
            typed = str(self._fields[name].value).strip()
            try:
                if typed:
                    values[name] = self._value(name, typed)
            except ValueError as error:
                wrong[name] = str(error)
        if values.keys() >= _TIMES and _seconds(values["to"]) <= _seconds(values["from"]):
            wrong["to"] = "It is not after the time that events are to be from."
        values["with_feedback"] = bool(self._fields["with_feedback"].value)
        if values["with_feedback"] and self._kind.value == _NO_FEEDBACK:
            wrong["with_feedback"] = (
                f"Kind {_NO_FEEDBACK} learns from lists that are made anew for it: untick this, or "
                "choose another kind."
            )
        return values, wrong

    def _value(self, name: str, typed: str) -> Any:
        limit = self._limits[name]
        if name == "params":
            return read_parameters(typed, limit)
        return read_time(typed) if name in _TIMES else limit.read(typed)

    async def _send(self) -> None:
        values, wrong = self._read()
        if wrong or self._in_the_way is not None:
            return
        stood = self._stands
        asked = TrainingRequest(
            kind=self._kind.value or None,
            algorithm=self._algorithm.value or None,
            mode=self._mode.value or None,
            force=bool(self._force.value),
            global_data=bool(self._global.value),
            requested_by="console",
            **{_RENAMED.get(name, name): value for name, value in values.items() if name != _MODEL},
        )
        model_id = self._to_train
        if not await confirmed(
            self._visit,
            f"Train {model_id}?",
            "A training is put into the queue. When the gate accepts its version, that goes live "
            "by itself, unless another one is pinned.",
            "Train",
            undo=told_of_undo(can_roll_back=self._visit.allows("admin")),
        ):
            return
        self._trouble.clear()
        try:
            task = await self._visit.api.train(model_id, asked)
        except Invalid as error:
            self._refused(error)
        except HeadraceError as error:
            with self._trouble:
                trouble_card(self._visit.failure(error))
        else:
            self._visit.toast("The training is in the queue.", "good")
            # What is typed for the next one already stays.
            if self._stands == stood:
                self._empty()
            if model_id == self._model_id():
                self.tell_open(task)

    @property
    def _stands(self) -> Sequence[object]:
        """What stands in the form."""
        return [field.value for field in self._all]

    @property
    def _all(self) -> Sequence[Field]:
        choices = (self._kind, self._algorithm, self._mode, self._force, self._global)
        return (*choices, *self._fields.values())

    def _empty(self) -> None:
        """Ask for nothing: the next training is another one."""
        for field in self._all:
            field.set(False if isinstance(field.value, bool) else "")
        self._offer_algorithms()

    def _refused(self, error: Invalid) -> None:
        """Say at each field what the server says of it."""
        said = {wrong.field.partition(".")[0]: wrong.reason for wrong in error.problem.errors}
        self._tell({name: reason for name, reason in said.items() if name in self._fields})
        with self._trouble:
            trouble_card(self._visit.failure(error))


def told_of_undo(*, can_roll_back: bool) -> str:
    """Return how a training is undone by whoever may roll back, or may not."""
    cancel = "It can be cancelled while it runs"
    if can_roll_back:
        return f"{cancel}, and rolled back once its version is live."
    return f"{cancel}; once its version is live, a rollback needs a key with the scope admin."


def read_time(typed: str) -> float | str:
    """Return a time as the API takes it. Raises `ValueError` for what is none."""
    try:
        value: float | str = float(typed)
    except ValueError:
        value = typed
    try:
        # What is no number at all fails each comparison.
        if 0 <= _seconds(value) < float("inf"):
            return value
    except (ValueError, OverflowError):
        raise ValueError(
            f"{typed[:40]!r} is no time; write 2026-11-01T00:00Z or Unix seconds."
        ) from None
    raise ValueError(f"{typed[:40]!r} is no time from 1970 on; write 2026-11-01T00:00Z.")


def _seconds(value: float | str) -> float:
    """Return a time in Unix seconds. Raises `ValueError`, `OverflowError` for what is none."""
    if isinstance(value, float):
        return value
    # Python 3.10 does not know the Z of UTC.
    moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def read_parameters(typed: str, limit: Limit) -> dict[str, float]:
    """Return the numbers of lines `NAME=NUMBER`. Raises `ValueError` for what is no such line."""
    found: dict[str, float] = {}
    for line in filter(None, map(str.strip, typed.splitlines())):
        name, equals, number = map(str.strip, line.partition("="))
        if not (name and equals):
            raise ValueError(f"{line[:40]!r} is not a name, = and a number.")
        if name in found:
            raise ValueError(f"{name} is there twice.")
        _check_name(name, limit.names)
        for each in [limit.named[name]] if name in limit.named else limit.each:
            try:
                found[name] = each.read(number)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    limit.count(len(found))
    return found


def _check_name(name: str, limit: Limit | None) -> None:
    if name in _FIELDS:
        raise ValueError(f"{name} has a field of its own.")
    if limit is not None and limit.among and name not in limit.among:
        close = difflib.get_close_matches(name, limit.among, n=1)
        hint = f"did you mean {close[0]}?" if close else "`headrace settings` lists them."
        raise ValueError(f"{name[:40]!r} is no training parameter; {hint}")
