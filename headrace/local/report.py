"""How the stack that runs fares, as a table and in words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from headrace.heartbeats import Heartbeat
from headrace.local.folder import StackState
from headrace.local.parts import PartStatus
from headrace.local.readiness import is_ready, read_heartbeats

_BEATING = ("worker", "trainer")
_COLOURS = {"ready": "green", "stopped": "red", "restarting": "red"}


@dataclass(frozen=True)
class Health:
    """The parts of a stack, and what they say of themselves."""

    state: StackState
    heartbeats: Mapping[int, Heartbeat]
    """By process id."""
    server_ready: bool

    @property
    def is_well(self) -> bool:
        """Every part runs and answers."""
        return all(self.trouble(part) is None for part in self.state.parts)

    def trouble(self, part: PartStatus) -> str | None:
        """Return what is wrong with a part, if anything is."""
        if part.state != "ready":
            return f"see {part.name}.log"
        if part.name.partition("-")[0] in _BEATING and part.pid not in self.heartbeats:
            return "gives no sign of life"
        if part.name == "server" and not self.server_ready:
            return "is not ready: it is loading the live version, or Kafka or Redis does not answer"
        return None


async def examine(state: StackState) -> Health:
    """Ask the parts of the stack how they are."""
    settings = state.settings
    beats = await asyncio.gather(*(read_heartbeats(settings, part) for part in _BEATING))
    heartbeats = {beat.pid: beat for found in beats for beat in found}
    server_ready = await is_ready(settings.url)
    return Health(state=state, heartbeats=heartbeats, server_ready=server_ready)


def status_table(health: Health, now: float) -> Table:
    """Return a row for each part. `now` is in Unix seconds."""
    table = Table("part", "state", "process", "since", "restarts", "figures", box=None)
    for part in health.state.parts:
        state = _state(health, part)
        colour = _COLOURS.get(state, "yellow")
        table.add_row(
            part.name,
            f"[{colour}]{state}[/]",
            str(part.pid or ""),
            f"{_duration(now - part.since)} ago",
            str(part.restarts),
            health.trouble(part) or _figures(health.heartbeats.get(part.pid or 0)) or part.about,
        )
    return table


def _state(health: Health, part: PartStatus) -> str:
    """Return a word for how the part fares: it may run, and not be able to do its work."""
    if part.state != "ready":
        return part.state
    if health.trouble(part) is not None:
        return "not ready"
    heartbeat = health.heartbeats.get(part.pid or 0)
    return "waiting" if heartbeat and heartbeat.state.startswith("waiting") else part.state


def _figures(heartbeat: Heartbeat | None) -> str:
    if heartbeat is None:
        return ""
    figures = (f"{name} {value:,.6g}" for name, value in heartbeat.figures.items())
    address = (f"metrics {heartbeat.address}/metrics",) if heartbeat.address else ()
    return ", ".join((heartbeat.state, *figures, *address))


def _duration(seconds: float) -> str:
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
