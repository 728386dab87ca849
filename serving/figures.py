"""Figures over time: what this server tells of its requests, and series of what all have told.

A window is read once for all who ask at about the same time, and of what was read before only the
newest buckets are read again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from headrace.evaluation import Score
from headrace.figures import (
    TELL_S,
    WINDOWS,
    Bucket,
    Field,
    FiguresStore,
    Part,
    Resolution,
    Tally,
    Window,
    percentile,
)
from headrace.version_store import VersionStore
from serving.schemas.figures import Figures, Percentiles, Quality, QualitySeries, RouteFigures, Swap

logger = logging.getLogger(__name__)

_FRESH_S = {"1h": 2.0, "1d": 10.0}
"""So old may be what is answered."""
_SETTLED_S = 3 * TELL_S
"""So long after its end nothing is told of a bucket any more."""
_SHARES = (0.5, 0.95, 0.99)
Bins = Mapping[int, int]


class RequestFigures:
    """Tells how many requests this server answered, how, and how fast."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def note(self, route: str, method: str, status: int, seconds: float | None) -> None:
        """Count one request; without seconds, for a stream, its time says nothing."""
        self._tally.counts["requests", method, route, _class(status)] += 1
        if seconds is not None:
            self._tally.time(("ms", method, route), seconds)

    async def follow(self) -> None:
        """Tell again and again, until cancelled."""
        while True:
            await self._tally.wait()
            await self.tell()

    async def tell(self) -> None:
        """Tell now."""
        try:
            await self._tally.tell()
        except (RedisError, OSError) as exc:
            logger.warning("figures cannot be told: %r", exc)


class FiguresView:
    """What all parts have told."""

    def __init__(
        self,
        store: FiguresStore,
        versions: VersionStore,
        k: int,
        model_ids: Sequence[str],
        clock: Callable[[], float],
    ) -> None:
        """`k`: of HR and NDCG; `clock` gives Unix seconds."""
        self._store = store
        self._versions = versions
        self._k = k
        self._model_ids = model_ids
        self._clock = clock
        self._answers: dict[Window, tuple[float, Figures]] = {}
        """With the time that each was made."""
        self._known: dict[Window, dict[int, Bucket]] = {window: {} for window in WINDOWS}
        self._reading = asyncio.Lock()

    async def read(self, window: Window) -> Figures:
        """Return the figures of a window. Raises `redis.exceptions.RedisError` or `OSError`."""
        async with self._reading:
            made_at, answer = self._answers.get(window, (0.0, None))
            now = self._clock()
            if answer is None or not 0 <= now - made_at < _FRESH_S[window]:
                answer = await self._read(window, now)
                self._answers[window] = now, answer
            return answer

    async def _read(self, window: Window, now: float) -> Figures:
        resolution = WINDOWS[window]
        starts = resolution.starts(now)
        known = self._known[window]
        missing = [start for start in starts if start not in known]
        found = dict(zip(missing, await self._store.read(resolution, missing), strict=True))
        found = {start: known[start] if start in known else found[start] for start in starts}
        self._known[window] = {
            start: bucket
            for start, bucket in found.items()
            if start + resolution.step + _SETTLED_S < now
        }
        swaps = await self._swaps(starts[0] + resolution.over)
        return await asyncio.to_thread(_figures, window, found, swaps, self._k)

    async def _swaps(self, since: float) -> list[Swap]:
        swaps = [
            Swap(model_id, live.version, live.live_since, live.reason)
            for model_id in self._model_ids
            for live in await self._versions.history(model_id)
            if live.live_since >= since
        ]
        return sorted(swaps, key=lambda swap: swap.at)


def _figures(window: Window, found: Mapping[int, Bucket], swaps: list[Swap], k: int) -> Figures:
    resolution = WINDOWS[window]
    starts, buckets = list(found), list(found.values())
    # What comes before the window is there to be looked back at.
    first = resolution.over // resolution.step
    begins, shown = starts[first:], buckets[first:]
    requests = [_by_class(bucket) for bucket in shown]
    seconds = [_told_s(*each, "server", resolution) for each in zip(begins, shown, strict=True)]

    def rates(counts: Iterable[int]) -> list[float | None]:
        return [_rate(*each) for each in zip(counts, seconds, strict=True)]

    return Figures(
        window=window,
        step_s=resolution.step,
        at=begins,
        events_per_s=_event_rates(begins, shown, resolution),
        lag=_by_topic([_lags(bucket) for bucket in shown]),
        freshness_ms=_percentiles([_bins(bucket, "fresh") for bucket in shown]),
        requests_per_s=rates(sum(each.values()) for each in requests),
        client_errors_per_s=rates(each["4xx"] for each in requests),
        server_errors_per_s=rates(each["5xx"] for each in requests),
        latency_ms=_percentiles([_bins(bucket, "ms") for bucket in shown]),
        routes=_routes(shown),
        quality=_quality(buckets, first, resolution, k),
        swaps=swaps,
        told_at={
            part: max((at for each in shown if (at := each.told_at(part))), default=None)
            for part in ("worker", "server")
        },
    )


def _told_s(start: int, bucket: Bucket, part: Part, resolution: Resolution) -> float | None:
    """Return of how many seconds of a bucket parts of this kind have told; None: of none.

    All, unless it is the newest, or the last one before they ended.
    """
    told_at = bucket.told_at(part)
    return None if told_at is None else min(max(told_at - start, TELL_S), resolution.step)


def _rate(count: float, seconds: float | None) -> float | None:
    return None if seconds is None else count / seconds


def _event_rates(
    at: Sequence[int], buckets: Sequence[Bucket], resolution: Resolution
) -> dict[str, list[float | None]]:
    rates = []
    for start, bucket in zip(at, buckets, strict=True):
        seconds = _told_s(start, bucket, "worker", resolution)
        counts = {field[1]: n for field, n in bucket.counts.items() if field[0] == "events"}
        rates.append({topic: _rate(count, seconds) for topic, count in counts.items()})
    return _by_topic(rates)


def _by_topic(steps: Sequence[Mapping[str, float | None]]) -> dict[str, list[float | None]]:
    """Return of each topic what each step says of it; None: nothing."""
    topics = sorted({topic for each in steps for topic in each})
    return {topic: [each.get(topic) for each in steps] for topic in topics}


def _lags(bucket: Bucket) -> Mapping[str, float]:
    """Return by topic the highest lags of its partitions, added up."""
    lags: dict[str, float] = defaultdict(float)
    for field, lag in bucket.peaks.items():
        if field[0] == "lag":
            lags[field[1]] += lag
    return lags


def _by_class(bucket: Bucket) -> Counter[str]:
    """Return how many requests came to `2xx`, `4xx` and so on."""
    counts: Counter[str] = Counter({"2xx": 0})
    for field, count in bucket.counts.items():
        if field[0] == "requests":
            counts[field[3]] += count
    return counts


def _bins(bucket: Bucket, kind: str) -> Bins:
    return _added(bucket.counts.items(), lambda field: field[0] == kind)


def _added(counts: Iterable[tuple[Field, int]], wanted: Callable[[Field], bool]) -> Bins:
    """Return the bins of those counts of times that are wanted, added up."""
    bins: Counter[int] = Counter()
    for field, count in counts:
        if wanted(field):
            bins[int(field[-1])] += count
    return bins


def _percentiles(bins: Sequence[Bins]) -> Percentiles:
    series = ([percentile(each, share) for each in bins] for share in _SHARES)
    return Percentiles(*series)


def _routes(buckets: Sequence[Bucket]) -> list[RouteFigures]:
    counts: Counter[Field] = Counter()
    for bucket in buckets:
        counts.update(bucket.counts)
    by_route: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    bins: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for field, count in counts.items():
        if field[0] == "requests":
            by_route[field[1], field[2]][field[3]] += count
        elif field[0] == "ms":
            bins[field[1], field[2]][int(field[3])] += count
    found = [
        RouteFigures(
            route,
            method,
            sum(classes.values()),
            classes["4xx"],
            classes["5xx"],
            *(percentile(bins[method, route], share) for share in _SHARES),
        )
        for (method, route), classes in by_route.items()
    ]
    return sorted(found, key=lambda each: (-each.requests, each.route, each.method))


def _quality(buckets: Sequence[Bucket], first: int, resolution: Resolution, k: int) -> Quality:
    """Return how lists fared over the time before each step."""
    back = resolution.over // resolution.step
    scores = [_scores(bucket) for bucket in buckets]
    labels = sorted({label for each in scores for label in each})
    by_label = {}
    for label in labels:
        of_label = [each.get(label, Score()) for each in scores]
        rolling = [
            sum(of_label[at - back + 1 : at + 1], Score()) for at in range(first, len(buckets))
        ]
        by_label[label] = QualitySeries(
            [score.events for score in rolling],
            [score.hit_rate if score.events else None for score in rolling],
            [score.ndcg if score.events else None for score in rolling],
        )
    return Quality(k, resolution.over, by_label)


def _scores(bucket: Bucket) -> dict[str, Score]:
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for field, count in bucket.counts.items():
        if field[0] == "scored":
            found[field[1]][field[2]] = count
    return {label: Score(**counts) for label, counts in found.items()}


def _class(status: int) -> str:
    return f"{status // 100}xx"
