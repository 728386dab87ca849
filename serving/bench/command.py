"""`headrace bench serving`: the whole measurement on one broker and one Redis of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from headrace.commands.bars import Phases
from headrace.commands.benchmark import run_benchmark
from headrace.local.own_servers import own_servers, server_versions
from serving.bench.ground import Ground, activate, build_version, prepare
from serving.bench.phases import (
    full_load,
    million,
    model_part,
    overload,
    roll_back,
    steady,
    swap,
)
from serving.bench.report import Runs, as_json, show
from serving.bench.server import shipped_server

_PACKAGES = ("uvicorn", "starlette", "uvloop", "httptools", "redis", "scann", "ai-edge-litert")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    items: int = 100_000
    large: int = 1_000_000
    """Items of the large catalogue."""
    users: int = 2_000
    seconds: float = 10.0
    """Of each load."""
    calls: int = 2_000
    """Of the model's part."""
    repeats: int = 3


QUICK = Sizes(items=2_000, large=4_000, users=50, seconds=0.5, calls=50, repeats=1)
"""Enough to see that it works; its figures say nothing."""


def run_serving(sizes: Sizes, json: Path | None, environ: Mapping[str, str]) -> None:
    """Measure, show the table, write the file. Raises `HeadraceError` when that cannot be."""
    run_benchmark(
        lambda shown: _measure(sizes, environ, shown),
        show,
        lambda runs: as_json(runs, asdict(sizes)),
        json,
    )


async def _measure(
    sizes: Sizes, environ: Mapping[str, str], shown: Phases
) -> tuple[Runs, dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        async with own_servers(Path(folder), environ, {}) as servers:
            with shown.phase(f"{sizes.users:,} users in Redis", 1):
                ground = await prepare(
                    servers.settings,
                    servers.environ,
                    servers.logs,
                    users=sizes.users,
                    items=sizes.items,
                )
            runs = await _runs(ground, sizes, shown)
            packages = {name: version(name) for name in _PACKAGES}
            return runs, {**packages, **await server_versions(servers.settings, None)}


async def _runs(ground: Ground, sizes: Sizes, shown: Phases) -> Runs:
    with shown.phase(f"versions of {sizes.items:,} items", 2) as advance:
        first = await build_version(ground, sizes.items, 1)
        advance(1)
        second = await build_version(ground, sizes.items, 2)
    with shown.phase(f"a version of {sizes.large:,} items", 1):
        large = await build_version(ground, sizes.large, 3)
    runs = Runs([], [], [], [], [], [], [], [])
    for number in range(1, sizes.repeats + 1):
        turn = f"{number} of {sizes.repeats}"
        with shown.phase(f"the model's part, {turn}", 2) as advance:
            runs.model.append(await model_part(ground, first, sizes.calls))
            advance(1)
            runs.large_model.append(await model_part(ground, large, sizes.calls))
        await activate(ground.settings, first)
        async with shipped_server(ground, first) as server:
            with shown.phase(f"a server of {sizes.items:,} items, {turn}", 5) as advance:
                await full_load(ground, server, sizes.seconds / 5)
                advance(1)
                runs.full.append(await full_load(ground, server, sizes.seconds))
                full_per_s = runs.full[-1].requests_per_s
                advance(2)
                runs.steady.append(await steady(ground, server, full_per_s, sizes.seconds))
                advance(3)
                runs.swap.append(await swap(ground, server, full_per_s, sizes.seconds, second))
                await server.until_live(second)
                runs.rollback_s.append(await roll_back(ground, server, first))
                advance(4)
                runs.overload.append(await overload(ground, server, full_per_s, sizes.seconds))
        with shown.phase(f"a server of {sizes.large:,} items, {turn}", 1):
            await activate(ground.settings, large)
            runs.large.append(await million(ground, large, sizes.seconds / 2, first))
    return runs
