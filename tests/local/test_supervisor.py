"""The supervisor with processes of a few lines: restarts, giving up, and leaving none behind."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest
from processes import runs, wait_for, wait_until_gone
from stand_in_stack import STAND_INS

from headrace.errors import StackError
from headrace.local.keeper import RestartPolicy
from headrace.local.parts import Check, Part, PartStatus
from headrace.local.supervisor import Supervisor

QUICK = RestartPolicy(first_pause_s=0.01, attempts=3)


async def at_once(_: int) -> bool:
    return True


async def never(_: int) -> bool:
    return False


def part(name: str, role: str = "idler", *, is_ready: Check = at_once, **more: object) -> Part:
    return Part(
        name=name,
        command=(sys.executable, STAND_INS, role),
        environ=dict(os.environ),
        is_ready=is_ready,
        stop_within_s=0.5,
        **more,  # type: ignore[arg-type]
    )


class Running:
    """A supervisor that is stopped on leaving, and what it told."""

    def __init__(self, logs: Path, *parts: Part, policy: RestartPolicy = QUICK) -> None:
        self.changes: list[PartStatus] = []
        self.lines: list[str] = []
        self.supervisor = Supervisor(
            parts,
            logs=logs,
            on_change=self.changes.append,
            say=self.lines.append,
            policy=policy,
        )

    async def __aenter__(self) -> Running:
        await self.supervisor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.supervisor.stop()

    def pid(self, name: str) -> int | None:
        return next(status.pid for status in self.supervisor.statuses if status.name == name)

    async def until_another(self, name: str, old: int | None) -> int:
        """Wait until the part is ready as another process, and return its id."""
        while True:
            for status in self.supervisor.statuses:
                if status.name == name and status.state == "ready" and status.pid != old:
                    return status.pid or 0
            await asyncio.sleep(0.02)


async def test_parts_start_after_what_they_need(tmp_path: Path) -> None:
    parts = part("third", needs=("second",)), part("second", needs=("first",)), part("first")
    async with Running(tmp_path, *parts) as running:
        ready = [change.name for change in running.changes if change.state == "ready"]
        assert ready == ["first", "second", "third"]


async def test_a_killed_part_is_started_again_and_one_line_says_so(tmp_path: Path) -> None:
    async with Running(tmp_path, part("one"), part("other")) as running:
        killed, other = running.pid("one"), running.pid("other")
        os.kill(killed or 0, 9)
        await running.until_another("one", killed)
        assert running.pid("other") == other
        assert running.lines == [
            f"one (process {killed}) was ended by SIGKILL; it is started again in 0.0 s."
        ]
        assert [status.restarts for status in running.supervisor.statuses] == [1, 0]


async def test_a_follower_is_started_anew_with_its_leader_and_others_are_not(
    tmp_path: Path,
) -> None:
    follower = part("follower", needs=("leader",), follows=("leader",))
    user = part("user", needs=("leader",))
    async with Running(tmp_path, part("leader"), follower, user) as running:
        before = {name: running.pid(name) for name in ("leader", "follower", "user")}
        os.kill(before["leader"] or 0, 9)
        await running.until_another("leader", before["leader"])
        await running.until_another("follower", before["follower"])
        assert running.pid("user") == before["user"]
        assert not runs(before["follower"])


async def test_a_part_that_keeps_dying_is_given_up_with_its_own_last_words(tmp_path: Path) -> None:
    running = Running(tmp_path, part("good"), part("bad", "failing", is_ready=never, cure="Mend!"))
    with pytest.raises(StackError) as caught:
        await running.supervisor.start()
    good = running.pid("good")
    await running.supervisor.stop()
    assert str(caught.value) == (
        "bad ended with exit code 3 before it was ready, 3 times in a row. Mend!\n"
        f"  The end of {tmp_path / 'bad.log'}:\n"
        + "\n".join(["    the reason that the part gives"] * 3)
    )
    assert not runs(good)


async def test_a_part_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    policy = RestartPolicy(ready_within_s=0.3)
    running = Running(tmp_path, part("late", is_ready=never), policy=policy)
    with pytest.raises(StackError, match=r"^late is not ready after 0 s\."):
        await running.supervisor.start()
    pids = [change.pid for change in running.changes]
    await running.supervisor.stop()
    wait_until_gone(pids)


async def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    missing = Part(name="gone", command=("/no/such/thing",), environ={}, is_ready=never)
    running = Running(tmp_path, missing)
    with pytest.raises(StackError, match="/no/such/thing cannot be run: No such file"):
        await running.supervisor.start()
    await running.supervisor.stop()


@pytest.mark.parametrize("role", ["idler", "deaf"])
async def test_stopping_leaves_nobody_behind_not_even_a_part_s_own_children(
    tmp_path: Path, role: str
) -> None:
    async with Running(tmp_path, part("parent", role)) as running:
        parent = psutil.Process(running.pid("parent"))
        await asyncio.to_thread(wait_for, parent.children, "the part's own child")
        pids = [parent.pid, *(child.pid for child in parent.children())]
    wait_until_gone(pids)
    assert running.supervisor.statuses[0].state == "stopped"
