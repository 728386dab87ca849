"""Whatever dies, each event is applied once: the short version of `make chaos`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
from chaos_run import Load, Plan, check, run_chaos
from parts import OwnKafka

from headrace.settings import Settings

Busy = Callable[[Settings], Settings]
SHORT = Plan(Load(events=10_000, users=500, items=300), kills=3)


async def test_killed_hung_and_without_a_broker_the_workers_leave_what_the_log_comes_to(
    own_kafka: OwnKafka, settings: Settings, busy: Busy, tmp_path: Path, seed: int
) -> None:
    on_apache = msgspec.structs.replace(busy(settings), kafka=own_kafka.address)
    check(await run_chaos(SHORT, on_apache, tmp_path, seed=seed, broker=own_kafka))


async def test_without_the_offset_check_the_counts_tell(
    settings: Settings, busy: Busy, tmp_path: Path, seed: int
) -> None:
    # Twice the kills: of one that comes at a lucky moment nothing is delivered again.
    plan = replace(SHORT, kills=6, hang=False, faults=("apply_without_offset_check",))
    summary = await run_chaos(plan, busy(settings), tmp_path, seed=seed)
    print(summary)
    assert summary.twice > 0
    assert [status for status, _ in summary.stops] == [0] * len(summary.stops)
    assert summary.lost == 0
    assert not any(line.startswith("sessions") for line in summary.differences)
