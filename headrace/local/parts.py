"""What a part of the stack is: a command, what it needs, and how one knows that it is ready."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

Check = Callable[[int], Awaitable[bool]]
"""Says whether the part that runs as this process id is ready."""

PartState = Literal["waiting", "starting", "ready", "restarting", "stopped"]


@dataclass(frozen=True)
class Part:
    """A process of the stack."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    """All of its environment variables."""
    is_ready: Check
    """May raise `HeadraceError` for a reason why it is not ready yet."""
    needs: tuple[str, ...] = ()
    """The parts that must be ready before this one is started."""
    follows: tuple[str, ...] = ()
    """Of those, the parts with which this one is started anew."""
    cure: str = ""
    """What to do when it will not start."""
    about: str = ""
    """What a user may want to know of it, in a few words."""
    stop_within_s: float = 1.0
    """Seconds from SIGTERM to SIGKILL."""


class PartStatus(Struct, frozen=True, kw_only=True):
    """How a part fares."""

    name: str
    state: PartState
    pid: int | None = None
    since: float
    """Unix seconds when it came into this state."""
    restarts: int = 0
    about: str = ""
