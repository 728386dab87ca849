"""Processes that are forked for tests leave nothing behind, however the tests end."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import forked
import psutil
from parts import eventually

PROGRAM = """
import os, sys, psutil
from pathlib import Path
import forked
if __name__ == "__main__":
    arguments = ["console", "--port", "0", "--url", "http://127.0.0.1:9"]
    started = forked.start(arguments, dict(os.environ), output=Path(sys.argv[1]))
    print(started.pid, psutil.Process(started.pid).ppid(), flush=True)
    os.kill(os.getpid(), 9)
"""


async def test_they_end_with_who_has_started_them(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    path = os.pathsep.join([str(Path(forked.__file__).parent), *sys.path])
    command = [sys.executable, str(program), str(tmp_path / "log")]
    said = tmp_path / "said"
    # Not a pipe: whoever is left would keep it open.
    with said.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, "PYTHONPATH": path}, stdout=output, stderr=output
        )
        status = await process.wait()
    assert status == -9, said.read_text()
    pids = [int(pid) for pid in said.read_text().split()]

    async def gone() -> bool:
        return not any(map(psutil.pid_exists, pids))

    await eventually(gone, "the process and the fork server have ended")
