"""The hyperparameters of a training: their defaults, and a task's own in their place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from headrace.errors import InvalidSetting
from headrace.setting_types import Count, Seconds, Share
from headrace.training_kinds import EPOCHS, LEARNING_RATE, TRAIN_SPLIT_RATIO


class TrainingSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model is made with. The defaults were chosen on MovieLens-100k's validation part."""

    positive_threshold: float = 4.0
    """An event whose rating is at least this is positive, and may be what is to be predicted."""
    click_rating: float = 4.0
    """What a click without a rating counts as."""
    purchase_rating: float = 5.0
    """What a purchase without a rating counts as."""

    width: Annotated[int, Meta(ge=8, le=512)] = 64
    """Of item and query vectors, the last coordinate being the item's bias."""
    session_length: Annotated[int, Meta(ge=2, le=200)] = 50
    """Interactions that the query tower looks at, the newest ones."""
    blocks: Count = 1
    """Transformer blocks; a second one overfits below some hundred thousand events."""
    heads: Count = 1
    """Attention heads of a block; they share the width, which is a multiple of them."""
    temperature: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Above 0, a score is the cosine of two vectors over this; 0: their dot product."""
    dropout: Share = 0.2
    """Of attention weights, hidden units and input vectors."""
    id_dropout: Share = 0.1
    """Share of items that a step knows by their features alone, so that a cold item can be told."""

    repeats: bool = False
    """Whether an event is to be predicted whose item its user has met before, too."""
    future: Count = 3
    """Positive events after each position that it learns to predict; 1: the next one alone."""
    future_decay: Annotated[float, Meta(gt=0, le=1)] = 0.7
    """Weight of each further one of them, relative to the one before."""
    negatives: Annotated[int, Meta(ge=256)] = 1024
    """Items drawn for each step, uniformly, when the catalogue is too large to take whole."""
    full_softmax_items: Count = 50_000
    """Up to so many items the loss runs over the whole catalogue."""

    context: Share = 0.5
    """Share of a window of a long history that is context alone, and no example."""
    batch_size: Count = 16
    """Windows of `session_length` positions a step."""
    learning_rate: Annotated[float, Meta(ge=LEARNING_RATE[0], le=LEARNING_RATE[1])] = 0.003
    """Adam's, at its highest; it falls along a cosine."""
    epochs: Annotated[int, Meta(ge=EPOCHS[0], le=EPOCHS[1])] = 8
    """At the most, on the events before the hold-out."""
    min_steps: Count = 400
    """Little data is gone through more often, until so many steps are made."""
    patience: Count = 3
    """Epochs without a better NDCG@10 on the hold-out after which the training stops."""
    final_epochs: Annotated[int, Meta(ge=0)] = 2
    """On all events, the held-out ones too, so that the version shipped knows the newest."""

    feedback_weight: Annotated[float, Meta(ge=0, le=10)] = 0.2
    """Of what users did with the lists they were served, in the loss, when a training is asked to
    learn from it."""
    feedback_window_s: Seconds = 3600.0
    """How long after a list was served an event of its user's counts as an act on it."""

    rules_share: Annotated[float, Meta(ge=-1, le=1)] = -1.0
    """Share of the sequential rules in a score, the rest being the towers'; 0: towers alone; below
    0: the share that lists best on the hold-out."""
    rules_last: Annotated[int, Meta(ge=1, le=50)] = 10
    """Items of the session that rules look from, the newest ones."""
    rules_decay: Annotated[float, Meta(gt=0, le=1)] = 0.85
    """Weight of each further one of them, relative to the one after it."""
    rules_smoothing: Annotated[float, Meta(ge=0, le=1e6)] = 10.0
    """Added to an item's total weight, so that few observations say little."""
    blend_candidates: Annotated[int, Meta(ge=10, le=2_000)] = 200
    """Items that the towers contribute to a list, the best ones."""

    train_split_ratio: Annotated[float, Meta(ge=TRAIN_SPLIT_RATIO[0], le=TRAIN_SPLIT_RATIO[1])] = (
        0.9
    )
    """Share of the events, in time order, before the hold-out."""
    validation_events: Count = 2_000
    """Held-out events looked at after each epoch, evenly spaced."""
    evaluation_events: Count = 20_000
    """Held-out events that the metrics and the calibrations come from, evenly spaced."""
    min_events: Annotated[int, Meta(ge=10)] = 100
    """Fewer than these are refused: nothing could be learnt or measured."""
    session_gap_s: Seconds = 1_800.0
    """A pause after which a user's next event begins another session, for item-to-item towers."""
    basket_s: Seconds = 24 * 3600.0
    """What a user buys within so long of a basket's first purchase is bought together."""
    incremental_sample: Annotated[float, Meta(ge=0, le=1_000)] = 2.0
    """Old events gone through again for each new one, when a training goes on from a version."""
    incremental_least: Count = 20_000
    """Old events gone through again at the least, if there are so many."""
    incremental_rate: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Of the learning rate: at its highest where a training goes on from a version."""
    scann_from_items: Count = 20_000
    """From so many items on the version carries a ScaNN index."""
    seed: int = 0
    """Same data, parameters and seed: same version."""


def schema_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the JSON schemas of these as a task gives them: numbers, 1 and 0 for yes and no."""
    schema = msgspec.json.schema(TrainingSettings)["$defs"][TrainingSettings.__name__]
    return {name: _as_number(schema["properties"][name]) for name in names}


def _as_number(schema: Mapping[str, Any]) -> dict[str, Any]:
    if schema["type"] == "boolean":
        return {"type": "integer", "minimum": 0, "maximum": 1}
    # A server's settings may have another default than the type.
    return {name: value for name, value in schema.items() if name != "default"}


def training_settings(settings: TrainingSettings, params: Mapping[str, float]) -> TrainingSettings:
    """Return the settings of a training with a task's own in their place.

    A task's are numbers; what is either so or not is 1 or 0. Raises `InvalidSetting` for one that
    there is not, or whose value cannot be used.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(TrainingSettings)}
    for name in params:
        if name not in types:
            close = difflib.get_close_matches(name, types, n=1)
            hint = (
                f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(types))}."
            )
            raise InvalidSetting(f"params.{name} is not a training setting; {hint}")
    given = {
        name: _yes_or_no(name, value) if types[name] is bool else value
        for name, value in params.items()
    }
    merged = {**msgspec.to_builtins(settings), **given}
    try:
        asked = msgspec.convert(merged, TrainingSettings, strict=False)
    except msgspec.ValidationError as exc:
        reason, _, where = str(exc).partition(" - at `$.")
        name = where.strip("`")
        raise InvalidSetting(f"params.{name} has value {merged[name]!r}. {reason}.") from exc
    if asked.width % asked.heads:
        raise InvalidSetting(
            f"params.heads has value {asked.heads}, of which the width, {asked.width}, is no "
            "multiple."
        )
    return asked


def _yes_or_no(name: str, value: float) -> bool:
    if value not in (0, 1):
        raise InvalidSetting(f"params.{name} has value {value!r}. It is 1 for yes or 0 for no.")
    return bool(value)
