"""What a training is asked for with: one type, read and checked the same way whoever asks.

HTTP, the command line, the clock, the count of events and the `retrain` topic all come here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Union

import msgspec
from msgspec import Meta, Struct

from headrace.errors import InvalidEvent, InvalidSetting
from headrace.events import EventId, decode
from headrace.model_settings import ModelId
from headrace.settings import Settings
from headrace.topics import Topics
from headrace.training_data import DataSchema, check_schema
from headrace.training_kinds import (
    ALGORITHMS,
    EPOCHS,
    KINDS,
    LEARNING_RATE,
    MODES,
    SEED,
    TRAIN_SPLIT_RATIO,
    Kind,
    Mode,
)
from headrace.training_settings import TrainingSettings, schema_of, training_settings

if TYPE_CHECKING:
    from headrace.log import Offsets

_PARAMETERS = ("epochs", "learning_rate", "train_split_ratio", "seed")
"""Fields that are training parameters of the same names."""
_OTHERS = [name for name in TrainingSettings.__struct_fields__ if name not in _PARAMETERS]
# Told in the documents alone: `training_settings` has better words for whoever errs.
ParameterName = Annotated[str, Meta(max_length=64, extra_json_schema={"x-among": _OTHERS})]
_Parameters = Annotated[
    dict[ParameterName, float],
    Meta(max_length=100, extra_json_schema={"properties": schema_of(_OTHERS)}),
]
_Offset = Annotated[int, Meta(ge=0, le=2**53)]
_Bound = Union[
    Annotated[float, Meta(ge=0)],
    Annotated[str, Meta(min_length=1, max_length=64)],
    Annotated[dict[str, dict[str, _Offset]], Meta(max_length=16)],
]
"""Unix seconds, an ISO 8601 time (UTC if it does not say), or offsets by topic and partition."""


class TrainingRequest(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    rename={"from_": "from"},
):
    """Asks for a training: the body of `POST …/train`, a message of the `retrain` topic."""

    model_id: ModelId | None = None
    """None: that of the path, or of the settings."""
    kind: Kind | None = None
    """None: that of the model's versions, or what a model of its id is for."""
    epochs: Annotated[int, Meta(ge=EPOCHS[0], le=EPOCHS[1])] | None = None
    learning_rate: Annotated[float, Meta(ge=LEARNING_RATE[0], le=LEARNING_RATE[1])] | None = None
    algorithm: (
        Annotated[str, Meta(max_length=64, extra_json_schema={"x-by-kind": ALGORITHMS})] | None
    ) = None
    """One of those of the kind; None: the first of them."""
    mode: Mode | None = None
    """`incremental`: from the live version's weights, on what is new and a sample of the old."""
    train_split_ratio: (
        Annotated[float, Meta(ge=TRAIN_SPLIT_RATIO[0], le=TRAIN_SPLIT_RATIO[1])] | None
    ) = None
    """Share of the events, in time order, before the hold-out."""
    with_feedback: bool = False
    """Whether to train on what users did with the lists they were served, too."""
    global_data: bool = False
    """Whether to train on the events of all models' topics."""
    seed: Annotated[int, Meta(ge=SEED[0], le=SEED[1])] | None = None
    from_: _Bound | None = None
    """Events from here on: a time of theirs, or offsets; None: everything archived and retained."""
    to: _Bound | None = None
    """Events before this one; None: as far as the log goes when the training starts."""
    schema: DataSchema | None = None
    """How the rows of an uploaded `data` file are to be read."""
    params: _Parameters = {}
    """Overrides of other training parameters, by name; 1 and 0 for yes and no."""
    force: bool = False
    """Whether to train though nothing has changed since the model's last success."""
    idempotency_key: EventId | None = None
    """The same key gives the same task, for a week and while the task is remembered."""
    reason: Annotated[str, Meta(max_length=512)] = ""
    requested_by: Annotated[str, Meta(max_length=128)] = ""

    def parameters(self, settings: Settings) -> TrainingSettings:
        """Return the settings of the training that is asked for. Raises `InvalidSetting`."""
        own = {name: getattr(self, name) for name in _PARAMETERS}
        given = {name: value for name, value in own.items() if value is not None}
        return training_settings(settings.training, {**self.params, **given})

    def between(self) -> tuple[float | None, float | None]:
        """Return from and to which time of the events, in Unix seconds; None: not by time."""
        return _seconds(self.from_), _seconds(self.to)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the log is left out but, by offset, its end."""
        return self.from_ is None and (self.to is None or isinstance(self.to, dict))

    def offsets(self) -> tuple[Offsets | None, Offsets | None]:
        """Return from and to which offsets of the log; None: not by offsets."""
        begin, end = (each if isinstance(each, dict) else None for each in (self.from_, self.to))
        return begin, end


_TEXTS = frozenset(
    {"model_id", "kind", "algorithm", "mode", "idempotency_key", "reason", "requested_by"}
)
"""Fields that are text, though they may look like a number."""
_LIMITS: Mapping[str, str] = {
    "model_id": "lowercase letters, digits and hyphens, no hyphen first or last, at most 63",
    "kind": f"one of {', '.join(KINDS)}",
    "mode": f"one of {', '.join(MODES)}",
    "epochs": f"a whole number from {EPOCHS[0]} to {EPOCHS[1]:,}",
    "learning_rate": f"a number from {LEARNING_RATE[0]} to {LEARNING_RATE[1]}",
    "train_split_ratio": f"a number from {TRAIN_SPLIT_RATIO[0]} to {TRAIN_SPLIT_RATIO[1]}",
    "seed": f"a whole number from {SEED[0]} to {SEED[1]:,}",
    "from": "Unix seconds, a time like 2026-11-01T00:00Z, or offsets by topic and partition",
    "to": "Unix seconds, a time like 2026-11-01T00:00Z, or offsets by topic and partition",
    "with_feedback": "true or false",
    "global_data": "true or false",
    "force": "true or false",
    "idempotency_key": "a text of 1 to 128 printable characters",
    "reason": "a text of at most 512 characters",
    "requested_by": "a text of at most 128 characters",
    "params": "numbers by the names of training settings; 1 and 0 for yes and no",
    "schema.format": "one of jsonl, csv, parquet",
    "schema.type": "one of click, rating, purchase",
    "schema.time_unit": "one of s, ms, us, iso",
    "schema.delimiter": "one character",
}
"""By field, what it may be."""

_SHORT = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
"""Rather a date (`20261101`) than Unix seconds, which have had ten digits since 2001."""
_PARTITION = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_decoder = msgspec.json.Decoder(TrainingRequest)


def parse_request(raw: bytes | None) -> TrainingRequest:
    """Read a request from JSON.

    Raises `InvalidEvent`, which names the field, its value and what it may be.
    """
    if raw is None:
        raise InvalidEvent("", "the record has no value; a retrain event is a JSON object")
    try:
        request: TrainingRequest = decode(_decoder, raw, InvalidEvent)
    except InvalidEvent as error:
        raise _in_words(error, raw) from error
    return request


def request_of(fields: Mapping[str, Any]) -> TrainingRequest:
    """Return the request of these fields, which may all be text. Raises `InvalidEvent`."""
    typed = {
        name: value if name in _TEXTS or _is_short(name, value) else _typed(value)
        for name, value in fields.items()
    }
    return parse_request(msgspec.json.encode(typed))


def check_request(request: TrainingRequest, settings: Settings) -> None:
    """Raise `InvalidEvent` for what no training could be made of."""
    if request.model_id not in (None, *settings.trained_ids):
        among = f"{', '.join(settings.trained_ids)}; HEADRACE_MODELS adds others"
        raise InvalidEvent("model_id", f"is {request.model_id!r}; there are {among}")
    if request.kind is not None:
        check_kind(request, request.kind, settings)
    for name in _PARAMETERS:
        if name in request.params:
            raise InvalidEvent(f"params.{name}", f"is a field of its own; send it as {name}")
    if request.schema is not None:
        check_schema(request.schema)
    of_model = settings.of_model(request.model_id or settings.model_id)
    _check_bounds(request, Topics(of_model).to_train(global_data=request.global_data))
    try:
        request.parameters(settings)
    except InvalidSetting as exc:
        raise InvalidEvent("params", str(exc).removeprefix("params.")) from exc


def usual_request(settings: Settings) -> TrainingRequest:
    """Return what the clock and the count of events ask for of this model.

    Raises `InvalidSetting` for fields that no training could be made of.
    """
    model_id = settings.model_id
    own = settings.models[model_id].request if model_id in settings.models else None
    name = "retrain.request" if own is None else f"models.{model_id}.request"
    fields = settings.retrain.request if own is None else own
    try:
        for field in sorted(_TOLD_BY_ITSELF & fields.keys()):
            raise InvalidEvent(field, "is not for settings to say; leave it out")
        request = msgspec.structs.replace(request_of(fields), model_id=model_id)
        check_request(request, settings)
        if request.kind is None:
            check_kind(request, usual_kind(settings, model_id), settings)
    except InvalidEvent as exc:
        raise InvalidSetting(f"{name} cannot be asked for. {exc}.") from exc
    return request


_TOLD_BY_ITSELF = frozenset({"model_id", "idempotency_key", "reason", "requested_by", "schema"})
"""Fields of a request that whoever asks by itself says, and that of a file."""


def check_kind(request: TrainingRequest, kind: Kind, settings: Settings) -> None:
    """Raise `InvalidEvent` for what no training of this kind can be asked for with.

    Nor is one taken whose version no server would take up.
    """
    if request.with_feedback and kind == "ranking":
        raise InvalidEvent(
            "with_feedback",
            "is true; a second stage learns from lists made anew for it, retrieval and items from "
            "those that were served",
        )
    algorithms = ALGORITHMS[kind]
    if request.algorithm is not None and request.algorithm not in algorithms:
        among = f"{kind} has {', '.join(algorithms)}"
        raise InvalidEvent("algorithm", f"is {request.algorithm!r}; {among}")
    model_id, second = request.model_id or settings.model_id, settings.serving.ranking_model_id
    if (kind == "ranking") != (model_id == second):
        named = f"model {second} is the second stage (HEADRACE_SERVING_RANKING_MODEL_ID)"
        raise InvalidEvent(
            "kind",
            f"is ranking, and {named}: under {model_id} it would serve nothing. Ask for it there"
            if kind == "ranking"
            else f"is {kind}, and {named}: no other kind would serve there. Ask for another model",
        )


def usual_kind(settings: Settings, model_id: str) -> Kind:
    """Return what a model without versions is trained to be, where nobody says."""
    of_id: dict[str, Kind] = {
        settings.serving.similar_model_id: "items",
        settings.serving.ranking_model_id: "ranking",
    }
    return of_id.get(model_id, "retrieval")


def _check_bounds(request: TrainingRequest, topics: Collection[str]) -> None:
    for name, bound in (("from", request.from_), ("to", request.to)):
        if isinstance(bound, dict):
            _check_offsets(name, bound, topics)
        try:
            _seconds(bound)
        except (ValueError, OverflowError) as exc:
            raise InvalidEvent(name, f"is {bound!r}; it must be {_LIMITS[name]}") from exc
    begin, end = request.between()
    if begin is not None and end is not None and end <= begin:
        raise InvalidEvent("to", f"is {request.to!r}, which is not after `from`")
    first, last = request.offsets()
    for topic, by_partition in (first or {}).items():
        for partition, offset in by_partition.items():
            if (last or {}).get(topic, {}).get(partition, offset) < offset:
                raise InvalidEvent(f"to.{topic}.{partition}", f"is before `from`, {offset:,}")


def _check_offsets(name: str, offsets: Offsets, topics: Collection[str]) -> None:
    for topic, by_partition in offsets.items():
        if topic not in topics:
            among = ", ".join(topics)
            reason = f"{topic[:_SHOWN]!r} is no topic that is trained on; there are {among}"
            raise InvalidEvent(name, reason)
        for partition in by_partition:
            if not _PARTITION.fullmatch(partition):
                raise InvalidEvent(f"{name}.{topic}", f"{partition[:_SHOWN]!r} is no partition")


def _seconds(bound: float | str | Offsets | None) -> float | None:
    """Return a bound that is a time in Unix seconds. Raises `ValueError` for what is none."""
    if isinstance(bound, dict) or bound is None:
        return None
    if isinstance(bound, str) and _SHORT.fullmatch(bound):
        raise ValueError(f"{bound} may be a date")
    try:
        seconds = float(bound)
    except ValueError:
        # Python 3.10 does not know the Z of UTC.
        moment = datetime.fromisoformat(str(bound).replace("Z", "+00:00"))
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{seconds} is no time")
    return seconds


def _in_words(error: InvalidEvent, raw: bytes) -> InvalidEvent:
    """Return the error with the value and all that the field may be, where there is a range."""
    # What is wrong inside of a mapping bears no key.
    field = error.field.partition("[")[0]
    limits = _LIMITS.get(field)
    if limits is None or error.reason.startswith("is "):
        return error
    try:
        value: Any = msgspec.json.decode(raw)
        for name in field.split("."):
            value = value[name]
        shown = msgspec.json.encode(value).decode()[:_SHOWN]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        # What comes after the field, or the field itself, is no JSON that Python could hold.
        return InvalidEvent(field, f"{error.reason}; it must be {limits}")
    return InvalidEvent(field, f"is {shown}; it must be {limits}")


_SHOWN = 100
"""Characters of a value that an error repeats."""


def _is_short(name: str, value: Any) -> bool:
    return name in ("from", "to") and isinstance(value, str) and bool(_SHORT.fullmatch(value))


def _typed(value: Any) -> Any:
    """Return what a text stands for, itself if it is no JSON."""
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError:
        return value
