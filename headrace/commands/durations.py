"""Durations as one types them: `2s`, `90m`, `1.5h`."""

from __future__ import annotations

import math
import re

from headrace.errors import HeadraceError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 24 * 3600.0}


def seconds(text: str, option: str) -> float:
    """Return a duration in seconds; without a unit it is in seconds.

    Raises `HeadraceError`, naming the option, for what is none.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)(ms|s|m|h|d)?", text.strip())
    if found is None or not math.isfinite(float(found[1])):
        raise HeadraceError(f"{option} {text!r} is no duration; write it like 2s, 10m, 1h or 7d.")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def ago(unix_s: float | None, now: float) -> str:
    """Return how long a moment has been past, in one unit; "" for None."""
    if unix_s is None:
        return ""
    age = max(0.0, now - unix_s)
    for unit in ("d", "h", "m"):
        if age >= _SECONDS[unit]:
            return f"{age / _SECONDS[unit]:.0f} {unit}"
    return f"{age:.0f} s"
