"""Several models side by side: which there are, and which topics of events each one reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from headrace.errors import InvalidSetting

ModelId = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(?!\n)$")]
TopicName = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?(?!\n)$")]
"""Without the prefix; empty: the usual name."""

RESERVED_TOPICS = frozenset(
    {"items", "impressions", "retrain", "model-versions", "dead-letters", "erasures"}
)
"""Topics that carry something else than events."""


class EventTopicNames(Struct, frozen=True, forbid_unknown_fields=True):
    """Topics of events, without the prefix; a model's own are `<id>-clicks` … if not named."""

    clicks: TopicName = ""
    purchases: TopicName = ""
    ratings: TopicName = ""

    @property
    def names(self) -> tuple[str, str, str]:
        """All three."""
        return self.clicks, self.purchases, self.ratings


SHARED = EventTopicNames("clicks", "purchases", "ratings")
"""Those of every model that has none of its own."""


class ModelSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """A model beside the others."""

    topics: EventTopicNames | None = None
    """Its own; without them it reads what all models share, and what helps the settings' model
    (`serving.similar_model_id`, `serving.ranking_model_id`) what that one reads."""
    request: dict[str, Any] | None = None
    """What the clock and the count ask for, instead of what `retrain.request` says."""


def topics_of(model_id: str, models: Mapping[str, ModelSettings]) -> EventTopicNames:
    """Return the topics that a model reads; one that is not listed reads the shared ones."""
    own = models[model_id].topics if model_id in models else None
    if own is None:
        return SHARED
    return EventTopicNames(
        own.clicks or f"{model_id}-clicks",
        own.purchases or f"{model_id}-purchases",
        own.ratings or f"{model_id}-ratings",
    )


def parse_models(raw: Any) -> dict[str, ModelSettings]:
    """Return the models of a table, or of its JSON.

    Raises `InvalidSetting`, which names the model, the field, its value and what it must be.
    """
    raw = parse_table(raw, "HEADRACE_MODELS", "[models.books]", '{"books": {"topics": {}}}')
    models = {_model_id(model_id): _model(model_id, of) for model_id, of in raw.items()}
    _check_topics(models)
    return models


def parse_table(raw: Any, variable: str, table: str, json: str) -> dict[str, Any]:
    """Return a table, or that of its JSON; `table` and `json`: how one is written.

    Raises `InvalidSetting`.
    """
    if isinstance(raw, str):
        try:
            raw = msgspec.json.decode(raw or "{}")
        except msgspec.DecodeError as exc:
            raise InvalidSetting(f"{variable} has value {raw!r}. It is no JSON: {exc}.") from exc
    if not isinstance(raw, dict):
        raise InvalidSetting(
            f"{variable} has value {raw!r}. It is a table: write {table}, or {json} in the "
            "variable."
        )
    return raw


def _model_id(given: str) -> str:
    try:
        return msgspec.convert(given, ModelId)
    except msgspec.ValidationError as exc:
        raise InvalidSetting(
            f"models.{given} is no model: an id is of lowercase letters, digits and hyphens, no "
            "hyphen first or last, at most 63."
        ) from exc


def _model(model_id: str, raw: Any) -> ModelSettings:
    try:
        return msgspec.convert(raw, ModelSettings)
    except msgspec.ValidationError as exc:
        reason, _, where = str(exc).partition(" - at `$")
        place = f"models.{model_id}{where.strip('`')}"
        raise InvalidSetting(f"{place} has value {_at(raw, where)!r}. {reason}.") from exc


def _at(raw: Any, where: str) -> Any:
    for part in filter(None, where.strip("`").split(".")):
        raw = raw[part]
    return raw


def _check_topics(models: Mapping[str, ModelSettings]) -> None:
    """Raise `InvalidSetting` unless models share all their topics or none."""
    found = dict.fromkeys(SHARED.names, ("those without topics of their own", SHARED))
    for model_id in sorted(models):
        topics = topics_of(model_id, models)
        if len(set(topics.names)) < len(topics.names):
            raise InvalidSetting(
                f"models.{model_id}.topics names one topic twice, {', '.join(topics.names)}; each "
                "kind of event needs its own."
            )
        for name in topics.names:
            if name in RESERVED_TOPICS:
                raise InvalidSetting(
                    f"models.{model_id}.topics has {name}, which carries no events; choose another."
                )
            other, theirs = found.setdefault(name, (f"models.{model_id}", topics))
            if theirs != topics:
                raise InvalidSetting(
                    f"models.{model_id}.topics shares {name} with {other}, and not the rest: "
                    "models read the same three topics, or have none in common."
                )
