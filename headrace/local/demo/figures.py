"""Gathers what the demo measures, as columns of numbers, and reckons what is shown of them."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.local.demo.client import Version
from headrace.tasks import Task

ROLLING = 1_000
"""Events over which the rolling HR@10 is taken."""
_RATE_OVER_S = 3.0


class Durations:
    """Things that took a while: when each began and how many milliseconds it took."""

    def __init__(self) -> None:
        self._at, self._ms = array("d"), array("d")

    def __len__(self) -> int:
        return len(self._at)

    def add(self, at: float, ms: float) -> None:
        """Add one that began `at`, in Unix seconds."""
        self._at.append(at)
        self._ms.append(ms)

    @property
    def ms(self) -> NDArray[np.float64]:
        """All of them, in milliseconds."""
        return np.array(self._ms, dtype=np.float64)

    def within(self, spans: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
        """Return of each whether any part of it fell into one of the spans of Unix seconds."""
        began = np.array(self._at)
        ended = began + np.array(self._ms) / 1_000
        inside = np.zeros(len(self), np.bool_)
        for start, end in spans:
            inside |= (began <= end) & (ended >= start)
        return inside

    def recent(self, count: int = ROLLING) -> NDArray[np.float64]:
        """Return the last of them, in milliseconds."""
        return np.array(self._ms[-count:], dtype=np.float64)


class Hits:
    """Of each event of the last 20 %, in the stream's order, whether its item was recommended."""

    def __init__(self, first: int, total: int) -> None:
        self.first = first
        """Events sent before."""
        self._model = np.full(total, np.nan)
        self._baselines: Mapping[str, NDArray[np.bool_]] = {}

    def compare(self, baselines: Mapping[str, NDArray[np.bool_]]) -> None:
        """Take of each baseline, by name, which of all these events it hits."""
        self._baselines = baselines

    def add(self, position: int, *, model: bool) -> None:
        """Add what the model made of the event at this position of the stream."""
        self._model[position - self.first] = model

    def model(self) -> NDArray[np.float64]:
        """1 for a hit, 0 for a miss, in the stream's order; events still to come left out."""
        return np.extract(~np.isnan(self._model), self._model)

    def baseline(self, name: str) -> NDArray[np.float64]:
        """As `model`, of a baseline on the same events; nothing of one that is not known."""
        hits = self._baselines.get(name)
        if hits is None:
            return np.zeros(0)
        return np.extract(~np.isnan(self._model), hits.astype(np.float64))


class Rate:
    """How fast a count rises, over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, now: float, count: int) -> float:
        """Take the count as it is now, in seconds of any clock; return its rise a second."""
        self._seen.append((now, count))
        while now - self._seen[0][0] > _RATE_OVER_S:
            self._seen.popleft()
        since, before = self._seen[0]
        return (count - before) / (now - since) if now > since else 0.0


@dataclass(frozen=True)
class Swap:
    """A version that went live."""

    version: str
    at: float
    """Unix seconds at which it was first seen live."""
    sent: int
    """Events sent by then."""


@dataclass
class Figures:
    """Everything that is measured, as the demo goes on."""

    hits: Hits
    total: int
    """Events of the whole stream."""
    phase: str = "starting"
    sent: int = 0
    """Events acknowledged, by Kafka or over HTTP."""
    applied: int = 0
    """Events that the worker says it has applied."""
    lag: int = 0
    """Events in the log that the worker has not applied yet."""
    requests: Durations = field(default_factory=Durations)
    """Requests for recommendations."""
    freshness: Durations = field(default_factory=Durations)
    """From an event's acknowledgement to the first answer that carries it."""
    unseen: int = 0
    """Sampled events that no answer carried in time."""
    latest_s: float = 0.0
    """The longest that an event's turn came after its time: its user's earlier ones go first."""
    failures: Counter[str] = field(default_factory=Counter)
    """Requests that failed, by reason."""
    turned_away: int = 0
    """Answers that said to ask again later, which was done."""
    tasks: tuple[Task, ...] = ()
    """Trainings, newest first."""
    versions: tuple[Version, ...] = ()
    """Newest first."""
    swaps: list[Swap] = field(default_factory=list)
    """In the order in which they went live."""
    notes: list[str] = field(default_factory=list)
    """What the summary must say beside the figures."""

    def acknowledge(self, events: int) -> None:
        """Take note that so many more events are safe in Kafka."""
        self.sent += events

    def answered_by(self, version: str, *, now: float) -> None:
        """Take note that this version answers; the first time, it has just gone live.

        An answer of the version before may still arrive after that, and tells nothing.
        """
        if all(swap.version != version for swap in self.swaps):
            self.swaps.append(Swap(version, now, self.sent))

    def version(self, name: str) -> Version | None:
        """Return what is known of the version, or None when nothing is yet."""
        return next((version for version in self.versions if version.version == name), None)

    @property
    def live(self) -> Version | None:
        """The version that went live last, when its data are known already."""
        return self.version(self.swaps[-1].version) if self.swaps else None

    @property
    def failed_requests(self) -> int:
        """Requests of any kind that failed."""
        return self.failures.total()

    def training_spans(self, now: float) -> list[tuple[float, float]]:
        """Return from when to when trainings ran, in Unix seconds; one that still does, to now."""
        return [
            (task.started_at, task.finished_at or now)
            for task in self.tasks
            if task.started_at is not None
        ]


def percentile(values: NDArray[np.float64], q: float) -> float | None:
    """Return the q-th percentile, interpolated linearly, or None of no values."""
    return float(np.percentile(values, q)) if len(values) else None


def mean(values: NDArray[np.float64]) -> float | None:
    """Return the mean, or None of no values."""
    return float(values.mean()) if len(values) else None


def rolling_mean(values: NDArray[np.float64], window: int = ROLLING) -> NDArray[np.float64]:
    """Return at each place the mean of the last `window` values, of fewer at the beginning."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def cumulative_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return at each place the mean of all values up to it."""
    return rolling_mean(values, max(len(values), 1))
