"""What a setting may be: types with their limits."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
PositiveNumber = Annotated[float, Meta(gt=0)]
Duration = Annotated[str, Meta(pattern=r"^[0-9]*\.?[0-9]+(ms|s|m|h|d)?(?!\n)$")]
"""As `headrace.commands.durations` reads it: `90m`, `24h`; seconds without a unit."""
Share = Annotated[float, Meta(ge=0, lt=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?!\n)$")]
TopicPrefix = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?(?!\n)$")]
