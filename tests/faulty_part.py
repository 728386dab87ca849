"""`headrace <command>`, with faults built in.

They are here and not settings of the product's, so that nobody can ship them by accident.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def apply_without_offset_check() -> None:
    """Apply each event to its session however often it comes."""
    from headrace import sessions

    load = sessions.load_script

    def patched(name: str) -> str:
        text = load(name)
        if name != "apply_events.lua":
            return text
        check = "if reached(mark, topic_id, offset) then"
        assert text.count(check) == 1, f"{check!r} is not in {name}"
        return text.replace(check, "if false then")

    sessions.load_script = patched


def trust_every_redis() -> None:
    """Go on when Redis was restarted, as though it were the one it was."""
    from headrace.identity import IdentityGuard

    async def look(self: IdentityGuard, connection: Any) -> None:
        return

    IdentityGuard.__call__ = look  # type: ignore[method-assign]


def stand_still() -> None:
    """Fetch some records, then no more, in silence."""
    import asyncio

    from faust.transport.drivers.aiokafka import Consumer

    fetch, calls = Consumer._getmany, 0

    async def fetch_once(self: Any, active_partitions: Any, timeout: float) -> Any:
        nonlocal calls
        records = await fetch(self, active_partitions, timeout)
        calls += bool(records)
        if calls > 1:
            await asyncio.Event().wait()
        return records

    Consumer._getmany = fetch_once


def train_nothing() -> None:
    """Run trainings that learn nothing, and do what the name of their model says."""
    from pathlib import Path

    from models.training import job_process

    program = Path(__file__).parent / "models" / "stand_in_job.py"
    job_process.JOB = (sys.executable, str(program))


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (apply_without_offset_check, trust_every_redis, stand_still, train_nothing)
}


def main(faults: list[str]) -> None:
    """Build the faults in, then be the command."""
    for fault in faults:
        FAULTS[fault]()
    from headrace.cli import main

    main()
