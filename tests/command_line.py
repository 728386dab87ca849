"""The command line as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys


def headrace(*arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `headrace` with these variables alone, and wait for its end."""
    return subprocess.run(
        [sys.executable, "-m", "headrace.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=_environ(environ),
        timeout=60,
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
