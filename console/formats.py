"""Numbers as people read them, with their units; what is not known says so."""

from __future__ import annotations

import json
import math

NO_DATA = "no data yet"
NONE_LATELY = "none lately"
_MINUS, _THIN = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def count(value: float | None) -> str:
    """Return a whole number: `12,345`."""
    return NO_DATA if value is None else _signed(f"{value:,.0f}")


def events(value: int) -> str:
    """Return how many events: `1 event`, `12,345 events`."""
    return f"{count(value)} event{'' if value == 1 else 's'}"


def share(value: float | None, digits: int = 1) -> str:
    """Return a share of one in per cent: `41.2 %`."""
    return NO_DATA if value is None else _signed(f"{100 * value:.{digits}f}") + f"{_THIN}%"


def points(value: float, digits: int = 1) -> str:
    """Return a difference of two shares in percentage points, always with its sign: `+8.0`."""
    return _signed(f"{_rounded(100 * value, digits):+.{digits}f}")


def score(value: float | None) -> str:
    """Return a measure between 0 and 1 as papers print it: `0.111`."""
    return NO_DATA if value is None else _signed(f"{value:.3f}")


def milliseconds(value: float | None) -> str:
    """Return a duration that is given in milliseconds: `0.84 ms`, `43 ms`, `1.20 s`."""
    if value is None:
        return NO_DATA
    if value >= 1_000:
        return f"{value / 1_000:.2f}{_THIN}s"
    return f"{value:.2f}{_THIN}ms" if value < 1 else f"{value:.0f}{_THIN}ms"


def rate(value: float | None, unit: str = "/s") -> str:
    """Return a rate with three figures: `0.25/s`, `123/s`."""
    return NO_DATA if value is None else _significant(value) + unit


def duration(seconds: float | None) -> str:
    """Return a duration that is given in seconds: `4 s`, `5 min`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None:
        return NO_DATA
    whole = max(int(seconds), 0)
    for size, name, below, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min")):
        if whole >= size:
            return _of_two(whole // size, name, whole % size // below, small)
    if whole >= 60:
        return _of_two(whole // 60, "min", whole % 60, "s")
    return f"{whole}{_THIN}s"


def _of_two(large: int, name: str, small: int, unit: str) -> str:
    """Return a duration of two units; of none of the small one it says nothing."""
    rest = f" {small}{_THIN}{unit}" if small else ""
    return f"{large}{_THIN}{name}{rest}"


def exact(value: object) -> str:
    """Return a value of a record as JSON writes it, text as it is: `12.99`, `1995`, `null`."""
    if isinstance(value, str):
        return value
    is_whole = isinstance(value, float) and value.is_integer()
    return json.dumps(value, ensure_ascii=False).removesuffix(".0" if is_whole else "")


def plain(value: object) -> str:
    """Return something measured as text: numbers with three figures, everything else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _significant(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _rounded(value: float, digits: int) -> float:
    """Return a number of so many digits, without the sign of a zero."""
    return round(value, digits) + 0.0


def _significant(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 12)}f}"
    return _signed(text.rstrip("0").rstrip(".") if "." in text else text)


def _signed(text: str) -> str:
    return text.replace("-", _MINUS, 1) if text.startswith("-") else text
