"""In a process of its own: standard error is the process's."""

from __future__ import annotations

import subprocess
import sys

_BLOCK = """
import os, sys
from headrace.commands.quiet import native_messages_aside
from headrace.errors import HeadraceError
with native_messages_aside():
    os.write(2, b"native\\n")
    print("python", file=sys.stderr)
    {last}
os.write(2, b"after\\n")
"""


def stderr_of(last: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _BLOCK.format(last=last)], capture_output=True, text=True
    )
    return done.stderr


def test_native_messages_are_not_shown() -> None:
    assert stderr_of("pass") == "python\nafter\n"


def test_they_are_when_something_breaks() -> None:
    shown = stderr_of("1 / 0")
    assert shown.startswith("python\nnative\n")
    assert "ZeroDivisionError" in shown


def test_an_error_that_was_foreseen_speaks_for_itself() -> None:
    shown = stderr_of("raise HeadraceError('no such data')")
    assert "native" not in shown
    assert "no such data" in shown
