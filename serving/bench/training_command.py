"""`headrace bench training`: what a training does to a server on the same machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headrace.commands.bars import Phases
from headrace.commands.benchmark import run_benchmark
from headrace.local.own_servers import own_servers, server_versions
from headrace.measuring import Bound, Measure, measures_json, show_measures
from headrace.settings import TrainerSettings
from serving.bench.ground import build_version, prepare
from serving.bench.server import shipped_server
from serving.bench.training import Beside, beside_training, pin, send_events, shipped_trainer

_PACKAGES = ("uvicorn", "starlette", "redis", "scann", "tensorflow")


@dataclass(frozen=True)
class TrainingSizes:
    """How much is measured."""

    items: int = 100_000
    """Of the version that serves."""
    users: int = 2_000
    rate: float = 200.0
    """Requests a second, an open loop."""
    seconds: float = 30.0
    """Of the load without a training."""
    events: int = 100_000
    """That a training reads."""
    trained_items: int = 2_000
    epochs: int = 6
    repeats: int = 3
    niceness: int = TrainerSettings().niceness
    """Of the training."""


QUICK = TrainingSizes(
    items=2_000, users=50, rate=50.0, seconds=1.0, events=5_000, trained_items=200, epochs=1,
    repeats=1, niceness=0,
)  # fmt: skip
"""Enough to see that it works; its figures say nothing."""


def run_training(sizes: TrainingSizes, json: Path | None, environ: Mapping[str, str]) -> None:
    """Measure, show the table, write the file. Raises `HeadraceError` when that cannot be."""
    run_benchmark(
        lambda shown: _measure(sizes, environ, shown),
        lambda runs, console: show_measures(measures(runs), console),
        lambda runs: _as_json(runs, sizes),
        json,
    )


def _as_json(runs: Sequence[Beside], sizes: TrainingSizes) -> dict[str, Any]:
    return {
        "benchmark": "training",
        **measures_json(measures(runs)),
        "repeats": len(runs),
        "sizes": asdict(sizes),
        "runs": [asdict(run) for run in runs],
    }


def measures(runs: Sequence[Beside]) -> dict[str, Measure]:
    """Return the figures by the names that they have in the JSON."""
    lines: tuple[tuple[str, str, Bound | None, list[float]], ...] = (
        (
            "serving_p99_ratio",
            "p99 during a training ÷ without",
            ("≤", 2.0),
            [run.p99_ratio for run in runs],
        ),
        ("p99_ms", "p99 without, ms", None, [run.without.p99_ms for run in runs]),
        ("training_p99_ms", "p99 during a training, ms", None, [r.during.p99_ms for r in runs]),
        ("p50_ms", "p50 without, ms", None, [run.without.p50_ms for run in runs]),
        ("training_p50_ms", "p50 during a training, ms", None, [r.during.p50_ms for r in runs]),
        ("refused", "requests refused during it", None, [float(r.during.refused) for r in runs]),
        ("training_s", "the training, s", None, [run.training_s for run in runs]),
    )
    return {name: Measure.of(title, target, values) for name, title, target, values in lines}


async def _measure(
    sizes: TrainingSizes, environ: Mapping[str, str], shown: Phases
) -> tuple[list[Beside], dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        chosen = {"HEADRACE_TRAINER_NICENESS": str(sizes.niceness)}
        async with own_servers(Path(folder), environ, chosen) as servers:
            with shown.phase(f"{sizes.users:,} users in Redis, {sizes.events:,} events", 2) as at:
                ground = await prepare(
                    servers.settings,
                    servers.environ,
                    servers.logs,
                    users=sizes.users,
                    items=sizes.items,
                )
                at(1)
                await send_events(servers.settings, sizes.events, sizes.trained_items)
            with shown.phase(f"a version of {sizes.items:,} items", 1):
                live = await build_version(ground, sizes.items, 1)
                await pin(servers.settings, live)
            runs: list[Beside] = []
            async with shipped_server(ground, live) as server, shipped_trainer(ground):
                with shown.phase("trainings beside a server", sizes.repeats) as advance:
                    for number in range(1, sizes.repeats + 1):
                        runs.append(
                            await beside_training(
                                ground,
                                server,
                                rate=sizes.rate,
                                seconds=sizes.seconds,
                                epochs=sizes.epochs,
                            )
                        )
                        advance(number)
            packages = {name: version(name) for name in _PACKAGES}
            return runs, {**packages, **await server_versions(servers.settings, None)}
