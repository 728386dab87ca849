"""The parts of the benchmark: each sets one thing beside another, on the same ground."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.errors import StackError
from headrace.versions import version_folder
from serving.bench.ground import Ground, activate
from serving.bench.load import Latency, Load, Seen
from serving.bench.model_part import ModelPart
from serving.bench.plain import PATH
from serving.bench.server import Server, ask, plain_server, shipped_server

CONNECTIONS = 8
"""At full load: one that is answered is asked again before the others are through."""
_OPEN_CONNECTIONS = 64
_SHARE_OF_FULL = 0.6
_TIMES_FULL = 10
_EXPECTED = ("200", "503")


@dataclass(frozen=True)
class FullLoad:
    """As much as a server does, and the plain route right after it."""

    requests_per_s: float
    plain_per_s: float
    cpu_us: float
    """Of the server, for a request."""
    plain_cpu_us: float
    answer_bytes: int


@dataclass(frozen=True)
class Steady:
    """An open loop at a part of full load."""

    rate: float
    """Requests a second that were asked for."""
    latency: Latency
    refused: int
    """On a machine that is too busy for this rate."""


@dataclass(frozen=True)
class Swap:
    """The same while another version is loaded and swapped in."""

    latency: Latency
    refused: int
    swapped: bool
    """Whether it was live before the load ended."""


@dataclass(frozen=True)
class Overload:
    """An open loop at several times full load."""

    rate: float
    """Requests a second that were meant."""
    asked_per_s: float
    """And that the client could write."""
    admitted: Latency
    refused: Latency
    lost: int


@dataclass(frozen=True)
class Million:
    """A server of a million items."""

    ready_s: float
    rss_mb: float
    """After it has answered."""
    rollback_s: float
    """Back to it, after another version was live."""


async def full_load(ground: Ground, server: Server, seconds: float) -> FullLoad:
    """Ask as fast as answers come, then the plain route."""
    load = _load(ground, server, seconds, connections=CONNECTIONS)
    cpu = server.cpu_s()
    seen = checked(await ask(ground, load))
    cpu_us = 1e6 * (server.cpu_s() - cpu) / seen.asked
    async with plain_server(ground, seen.last_answer) as plain:
        load = _load(ground, plain, seconds, connections=CONNECTIONS)
        cpu = plain.cpu_s()
        echoed = checked(await ask(ground, load))
        plain_cpu_us = 1e6 * (plain.cpu_s() - cpu) / echoed.asked
    size = len(seen.last_answer.encode())
    return FullLoad(seen.per_s, echoed.per_s, cpu_us, plain_cpu_us, size)


async def steady(ground: Ground, server: Server, full_per_s: float, seconds: float) -> Steady:
    """Ask at a part of full load."""
    rate = _SHARE_OF_FULL * full_per_s
    load = _load(ground, server, seconds, connections=_OPEN_CONNECTIONS, rate=rate)
    seen = checked(await ask(ground, load))
    return Steady(rate, seen.of("200"), seen.of("503").count)


async def swap(
    ground: Ground, server: Server, full_per_s: float, seconds: float, version: str
) -> Swap:
    """Ask at the same rate, and put another version live meanwhile."""
    rate = _SHARE_OF_FULL * full_per_s
    load = _load(ground, server, seconds, connections=_OPEN_CONNECTIONS, rate=rate)
    asking = asyncio.create_task(ask(ground, load))
    await asyncio.sleep(seconds / 4)
    await activate(ground.settings, version)
    seen = checked(await asking)
    swapped = await server.live() == version
    return Swap(seen.of("200"), seen.of("503").count, swapped)


async def roll_back(ground: Ground, server: Server, version: str) -> float:
    """Ask for a rollback, which leads to this version; return the seconds until it is live."""
    began = time.perf_counter()
    await server.roll_back(ground.settings.model_id, ground.admin_key)
    await server.until_live(version)
    return time.perf_counter() - began


async def overload(ground: Ground, server: Server, full_per_s: float, seconds: float) -> Overload:
    """Ask for many times what the server can do."""
    rate = _TIMES_FULL * full_per_s
    seen = await ask(
        ground, _load(ground, server, seconds, connections=_OPEN_CONNECTIONS, rate=rate)
    )
    refused = seen.of("503") if seen.of("503").count else seen.of("429")
    lost = seen.of("lost").count
    return Overload(rate, seen.asked_per_s, seen.of("200"), refused, lost)


async def model_part(ground: Ground, version: str, calls: int) -> ModelPart:
    """Ask a version alone, in a process of its own. Raises `StackError` when it fails."""
    settings = ground.settings
    folder = version_folder(Path(settings.artifacts), settings.model_id, version)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "serving.bench.model_part",
        str(folder),
        str(calls),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(ground.environ),
    )
    out, err = await process.communicate()
    if process.returncode:
        raise StackError(f"The model's part cannot be measured:\n{err.decode(errors='replace')}")
    return msgspec.json.decode(out, type=ModelPart)


async def million(ground: Ground, version: str, seconds: float, other: str) -> Million:
    """Start a server of a large version, ask it, put another one live, and roll back."""
    async with shipped_server(ground, version) as server:
        checked(await ask(ground, _load(ground, server, seconds, connections=CONNECTIONS)))
        rss_mb = server.rss_mb()
        await activate(ground.settings, other)
        await server.until_live(other)
        return Million(server.ready_s, rss_mb, await roll_back(ground, server, version))


def checked(seen: Seen) -> Seen:
    """Return it. Raises `StackError` when a request was neither answered nor refused in time."""
    others = {status: at.count for status, at in seen.by_status.items() if status not in _EXPECTED}
    if others:
        raise StackError(f"Requests were answered with {others}; figures would mean nothing.")
    return seen


def _load(
    ground: Ground, server: Server, seconds: float, *, connections: int, rate: float = 0.0
) -> Load:
    return Load(
        port=server.port,
        path=PATH,
        bodies=ground.bodies,
        connections=connections,
        seconds=seconds,
        rate=rate,
        headers=ground.headers,
    )
