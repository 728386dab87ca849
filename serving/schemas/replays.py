"""Replays that are asked for."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from headrace.model_settings import ModelId
from headrace.replaying.queue import ReplayTask
from headrace.replaying.window import BEGINNING, NOW
from headrace.setting_types import Name

ReplayId = Annotated[str, Meta(pattern="^[0-9a-f]{32}(?!\\n)$")]


ReplayTime = Annotated[str, Meta(max_length=40)]


class ReplayRequest(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"begin": "from", "end": "to"},
):
    """Body of `POST /v1/replays`."""

    model_id: ModelId | None = None
    """Whose events; None: the server's own model's."""
    into: Name | None = None
    """A shadow's namespace, which a replay fills from nothing; None: the live state."""
    topics: Annotated[list[str], Meta(min_length=1, max_length=10)] | None = None
    """Without the prefix; None: all of the model's events."""
    begin: ReplayTime = BEGINNING
    """`beginning`, or a time in ISO 8601, which is UTC unless it says otherwise."""
    end: ReplayTime = NOW
    """`now`, or a time likewise."""
    rate: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    """Records a second at the most; 0: as fast as it goes."""
    dry_run: bool = False
    """Whether it is only to be counted what would be applied; refused as the replay would be."""
    anew: bool = False
    """Whether a shadow that is there is deleted first."""


class ReplayList(Struct, frozen=True):
    """Answer of `GET /v1/replays`, newest first."""

    replays: list[ReplayTask]
