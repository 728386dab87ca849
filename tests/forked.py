"""`headrace <command>` in processes that begin with its modules imported.

A fresh interpreter takes a second of processor time for imports, which a run of all tests would
spend some hundreds of times. `multiprocessing`'s fork server has them imported once, and each
process is forked from there, before anything has run. What a start itself is like is for the tests
of the installed command to see.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import faulty_part

from headrace.local.launch import die_with_parent

_IMPORTED = (
    "headrace.archiver",
    "headrace.backup",
    "headrace.commands.dead_letters",
    "headrace.commands.replay",
    "headrace.commands.topics_table",
    "headrace.importing.run",
    "models.training.trainer",
    "serving.main",
    "streams.worker",
)
"""All that is heavy, but for what starts threads when it is imported."""
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(_IMPORTED))


def start(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    output: Path,
    errors: Path | None = None,
    stdin: Path = Path(os.devnull),
    folder: Path | None = None,
    faults: Sequence[str] = (),
) -> BaseProcess:
    """Start `headrace` with these arguments and these variables alone.

    What it prints is appended to `output`, its errors too if there is no file for them. It runs in
    `folder`, this process's own if None, and ends with this process.
    """
    files = str(stdin), str(output), str(errors or output)
    place = str(folder or Path.cwd())
    process = _CONTEXT.Process(
        target=_become,
        args=(list(arguments), dict(environ), files, place, list(faults)),
        daemon=True,
    )
    process.start()
    return process


def _become(
    arguments: list[str],
    environ: dict[str, str],
    files: tuple[str, str, str],
    folder: str,
    faults: list[str],
) -> None:
    # The fork server ends with the tests' process, if nobody else holds what it waits on; and this
    # one ends with the fork server.
    die_with_parent(os.getppid())
    os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    stdin, output, errors = files
    for number, (path, flags) in enumerate(
        (
            (stdin, os.O_RDONLY),
            (output, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
            (errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        )
    ):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.argv = ["headrace", *arguments]
    try:
        faulty_part.main(faults)
    finally:
        # A process of multiprocessing's leaves these out.
        atexit._run_exitfuncs()
