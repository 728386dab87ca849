"""The newest number of a series, and the time that it is from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from console import formats

Series = Sequence[float | None]
_RECENT = 3
"""Steps: what is older than the newest ones, of which the last is not over yet, is not of now."""


@dataclass(frozen=True)
class Newest:
    """What the newest values of some series sum up to."""

    value: float | None
    """None: there is none of late."""
    at: float | None
    """The end of the step that it is of, in Unix seconds; without a value of late, of the last one
    that had any; None: there never was one."""

    def words(self, named: Callable[[float | None], str]) -> str:
        """Return it in words."""
        none_lately = self.value is None and self.at is not None
        return formats.NONE_LATELY if none_lately else named(self.value)


def newest(steps: Sequence[float], step_s: float, told_at: float | None, *series: Series) -> Newest:
    """Return the newest values added up.

    `steps`: when each begins; `told_at`: when anything was told last, which ends the last one.
    The time is that of the oldest of the values.
    """
    last = [found for each in series if (found := _last(each)) is not None]
    if not last:
        return Newest(None, None)
    recent = [(at, value) for at, value in last if at >= len(steps) - _RECENT]
    at = min(at for at, _ in recent) if recent else max(at for at, _ in last)
    end = steps[at] + step_s
    end = end if told_at is None else min(end, told_at)
    return Newest(sum(value for _, value in recent) if recent else None, end)


def _last(values: Series) -> tuple[int, float] | None:
    """Return the number of the last step that has a value, and that."""
    steps = range(len(values) - 1, -1, -1)
    return next(((at, value) for at in steps if (value := values[at]) is not None), None)
