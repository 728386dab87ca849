"""Where a command prints what it has found."""

from __future__ import annotations

import os

from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 200
"""Columns: a file or another program gets tables whole, where 80 would cut them."""


def output() -> Console:
    """Return the standard output, as wide as its terminal or as `COLUMNS` says."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_WITHOUT_TERMINAL
    return console
