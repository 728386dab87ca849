"""What every benchmark is as a command: measured under a bar, shown as a table, written as JSON."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from headrace.commands.bars import Phases, phases
from headrace.measuring import machine
from headrace.reports import check_writable, write_json

_Runs = TypeVar("_Runs")


def run_benchmark(
    measure: Callable[[Phases], Awaitable[tuple[_Runs, Mapping[str, str]]]],
    show: Callable[[_Runs, Console], None],
    report: Callable[[_Runs], Mapping[str, Any]],
    json: Path | None,
) -> None:
    """Measure, show the figures, and write `report` with versions and machine, if there is a file.

    `measure` returns the runs and the versions of what was measured. Raises `HeadraceError` when
    the file cannot be written, before anything is measured, and what `measure` raises.
    """
    if json:
        check_writable(json)
    load = os.getloadavg()[0]

    async def measured() -> tuple[_Runs, Mapping[str, str]]:
        with phases(Console(stderr=True)) as shown:
            return await measure(shown)

    runs, versions = asyncio.run(measured())
    show(runs, Console())
    if json:
        write_json({**report(runs), "versions": versions, "machine": machine(load)}, json)
