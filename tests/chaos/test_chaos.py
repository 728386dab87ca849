"""Whatever dies, each event is applied once: the short version of `make chaos`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
from chaos_run import Load, Plan, backwards, check, run_chaos
from parts import OwnKafka

from headrace.sessions import Session
from headrace.settings import Settings

Busy = Callable[[Settings], Settings]
SHORT = Plan(Load(events=10_000, users=500, items=300), kills=3)


def test_the_reader_sees_a_dictionary_go_backwards() -> None:
    def session(**timestamps: float) -> Session:
        return Session(tuple(timestamps), tuple(timestamps.values()))

    last = session(a=1.0, b=2.0, c=3.0)
    for later in (last, session(a=1.0, b=2.0, c=4.0), session(a=1.0, b=2.0, c=3.0, d=3.0)):
        assert backwards(last, later, limit=4) == []
    assert backwards(last, session(b=2.0, c=3.0, d=4.0), limit=3) == []
    for later, told in (
        (session(a=1.0, b=2.0), "newest 2.0 after 3.0"),
        (session(b=2.0, c=3.0, d=4.0), "a of 1.0 is gone"),
        (session(a=1.0, b=1.5, c=3.0), "b of 1.5 after 2.0"),
    ):
        assert told in backwards(last, later, limit=4)
    # A full one has dropped one that is not its oldest.
    assert backwards(last, session(a=1.0, c=3.0, d=4.0), limit=3) == ["b of 2.0 is gone"]


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
