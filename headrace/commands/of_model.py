"""Which model a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.settings import Settings


def of_model(settings: Settings, model: str | None) -> Settings:
    """Return the settings of the model that `--model` names, if it names one.

    Raises `UnknownModel`.
    """
    return settings if model is None else settings.of_model(model)
