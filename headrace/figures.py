"""Figures over time: what workers and servers count, in buckets of time that Redis keeps.

Every part adds what it has counted since to the bucket of now, in two resolutions: short buckets
for the last hour, long ones for the last day. A bucket is a hash that expires; its fields are
counts, which add up over all parts, values, of which the last one stays, and peaks, of which the
highest does. What is counted here is shown, never acted on: a part that is killed takes its last
seconds along.

Times are counted in bins whose bounds grow by a constant factor, so that every percentile is right
within `ACCURACY` (DDSketch: Masson, Rim & Lee, VLDB 2019).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, Literal

from msgspec import Struct
from redis.asyncio import Redis

from headrace.settings import Settings
from headrace.store import load_script, text

Part = Literal["worker", "server"]
Window = Literal["1h", "1d"]
Field = tuple[str, ...]
"""What a count or a value is of: `("events", "clicks")`."""

ACCURACY = 0.05
_GROWTH = math.log((1 + ACCURACY) / (1 - ACCURACY))
_SHORTEST_MS = 0.01
TELL_S = 5.0
"""How often parts tell; at these times of the clock, so that each bucket has its share."""


class Resolution(Struct, frozen=True):
    """How finely a window is told. All in seconds, `over` a multiple of `step`."""

    step: int
    window: int
    over: int
    """What is told of few events (HR, NDCG) is told of those of so long."""

    @property
    def kept(self) -> int:
        """How long a bucket is kept."""
        return self.window + self.over + 2 * self.step

    def starts(self, now: float) -> list[int]:
        """Return when the buckets begin that are read at this time, oldest first."""
        last = int(now // self.step) * self.step
        return list(range(last - self.window - self.over + self.step, last + 1, self.step))


WINDOWS: dict[Window, Resolution] = {
    "1h": Resolution(step=10, window=3_600, over=300),
    "1d": Resolution(step=300, window=86_400, over=3_600),
}


class Bucket(Struct, frozen=True):
    """What was told of one bucket of time."""

    counts: Mapping[Field, int] = {}
    values: Mapping[Field, float] = {}
    peaks: Mapping[Field, float] = {}

    def told_at(self, part: Part) -> float | None:
        """Return when a part of this kind told of it last, in Unix seconds; None: none did."""
        return self.values.get(("told", part))


class FiguresStore:
    """The buckets in Redis."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._stem = settings.key("{figures}", "")
        self._raise = load_script("raise_fields.lua")

    async def add(
        self,
        at: float,
        counts: Mapping[Field, int],
        values: Mapping[Field, Any],
        peaks: Mapping[Field, float] = MappingProxyType({}),
    ) -> None:
        """Add counts to the buckets of this time, in Unix seconds, and set values and peaks there.

        Raises `redis.exceptions.RedisError`.
        """
        async with self._redis.pipeline(transaction=True) as pipeline:
            for resolution in WINDOWS.values():
                key = self._key(resolution, int(at // resolution.step) * resolution.step)
                for field, count in counts.items():
                    pipeline.hincrby(key, _name("+", field), count)
                for field, value in values.items():
                    pipeline.hset(key, _name("=", field), value)
                if peaks:
                    named = [(_name("^", field), str(peak)) for field, peak in peaks.items()]
                    pipeline.eval(self._raise, 1, key, *chain.from_iterable(named))
                pipeline.expire(key, resolution.kept)
            await pipeline.execute()

    async def read(self, resolution: Resolution, starts: Sequence[int]) -> list[Bucket]:
        """Return the buckets that begin at these times. Raises `redis.exceptions.RedisError`."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for start in starts:
                pipeline.hgetall(self._key(resolution, start))
            return [_bucket(fields) for fields in await pipeline.execute()]

    def _key(self, resolution: Resolution, start: int) -> str:
        return f"{self._stem}{resolution.step}:{start}"


class Tally:
    """What one part has counted and not told yet. Counting costs an addition."""

    def __init__(self, store: FiguresStore, part: Part, clock: Callable[[], float]) -> None:
        """`clock` gives Unix seconds."""
        self._store = store
        self._part = part
        self._clock = clock
        self.counts: Counter[Field] = Counter()
        """To be added to."""
        self.peaks: dict[Field, float] = {}
        """To be set where they are higher than what was told of the same bucket before."""
        self._untold: dict[float, Counter[Field]] = {}
        """By the time that they are of, counts that Redis has not taken."""

    @property
    def now(self) -> float:
        """The time, in Unix seconds."""
        return self._clock()

    def time(self, field: Field, seconds: float, count: int = 1) -> None:
        """Count something that took so long."""
        counted = (*field, str(bin_of(1000 * seconds)))
        self.counts[counted] += count

    async def tell(self) -> None:
        """Tell what has been counted since the last time.

        What Redis does not take is told the next time, of the time that it is of. Raises
        `redis.exceptions.RedisError` or `OSError`.
        """
        now = self._clock()
        # Told on a bucket's first moment, they are of the one before.
        counts, self.counts = self.counts, Counter()
        self._untold[now - TELL_S / 2] = counts
        oldest = now - max(each.kept for each in WINDOWS.values())
        for at in sorted(self._untold):
            if at > oldest:
                is_new = at > now - TELL_S
                values: dict[Field, float] = {("told", self._part): now} if is_new else {}
                peaks = self.peaks if is_new else {}
                await self._store.add(at, self._untold[at], values, peaks)
            del self._untold[at]

    async def wait(self) -> None:
        """Wait until it is time to tell."""
        now = self._clock()
        await asyncio.sleep((now // TELL_S + 1) * TELL_S - now)


def bin_of(milliseconds: float) -> int:
    """Return the bin that a time is counted in."""
    return math.ceil(math.log(max(milliseconds, _SHORTEST_MS)) / _GROWTH)


def percentile(bins: Mapping[int, int], share: float) -> float | None:
    """Return the time, in milliseconds, that a share of those counted did not exceed.

    None when none were counted.
    """
    rank = share * (sum(bins.values()) - 1)
    seen = 0
    for number in sorted(bins):
        seen += bins[number]
        if seen > rank:
            # The middle of the bin, as far from its bounds in relation to them.
            return math.exp(_GROWTH * number) * (1 - ACCURACY)
    return None


def _name(kind: str, field: Field) -> str:
    return "\x1f".join((kind, *field))


def _bucket(fields: Mapping[Any, Any]) -> Bucket:
    counts: dict[Field, int] = {}
    values: dict[Field, float] = {}
    peaks: dict[Field, float] = {}
    for name, value in fields.items():
        kind, *field = text(name).split("\x1f")
        if kind == "+":
            counts[tuple(field)] = int(value)
        else:
            (peaks if kind == "^" else values)[tuple(field)] = float(value)
    return Bucket(counts, values, peaks)
