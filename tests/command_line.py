"""The command line as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import forked

_PATIENCE_S = 120.0
"""Only there against hanging."""


def headrace(*arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `headrace` with these variables alone, and wait for its end."""
    with tempfile.TemporaryDirectory() as folder:
        given, output, errors = (Path(folder, name) for name in ("stdin", "stdout", "stderr"))
        given.write_text(stdin)
        process = forked.start(
            arguments, _environ(environ), stdin=given, output=output, errors=errors
        )
        process.join(_PATIENCE_S)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(["headrace", *arguments], _PATIENCE_S)
        return subprocess.CompletedProcess(
            ["headrace", *arguments], process.exitcode, output.read_text(), errors.read_text()
        )


def start_headrace(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    """Start `headrace` with these variables alone."""
    return subprocess.Popen(
        [sys.executable, "-m", "headrace.cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environ(environ),
    )


def _environ(environ: dict[str, str]) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")}
    return {**clean, "COLUMNS": "200", **environ}
