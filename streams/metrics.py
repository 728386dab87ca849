"""Prometheus metrics of one worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from headrace.topics import Place
from streams.progress import Progress

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000)


class Metrics:
    """What the worker has done, how long it took, and how far it lags."""

    def __init__(self, progress: Progress, lags: Callable[[], Mapping[Place, int]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Counts(progress, lags))
        ProcessCollector(registry=self._registry)
        self._seconds = Histogram(
            "headrace_worker_apply_seconds",
            "Time from a batch in hand to its effects in Redis.",
            ("agent",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._records = Histogram(
            "headrace_worker_batch_records",
            "Records applied at once.",
            ("agent",),
            buckets=_RECORDS,
            registry=self._registry,
        )
        self.starts = Counter(
            "headrace_worker_starts",
            "Starts of all workers on this Redis, when this one started.",
            registry=self._registry,
        )

    def observe(self, agent: str, records: int, seconds: float) -> None:
        """Note a batch that is done with."""
        self._seconds.labels(agent).observe(seconds)
        self._records.labels(agent).observe(records)

    def expose(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class _Counts(Collector):
    def __init__(self, progress: Progress, lags: Callable[[], Mapping[Place, int]]) -> None:
        self._progress = progress
        self._lags = lags

    def collect(self) -> Iterable[Metric]:
        progress = self._progress
        events = CounterMetricFamily(
            "headrace_worker_events",
            "Records of events by what became of them: new, known (delivered again), erased "
            "(their user was), invalid (a dead letter).",
            labels=("topic", "outcome"),
        )
        for (topic, outcome), count in progress.events.items():
            events.add_metric((topic, outcome), count)
        lag = GaugeMetricFamily(
            "headrace_worker_lag_records",
            "Records of a partition that this worker has yet to do.",
            labels=("topic", "partition"),
        )
        for place, records in self._lags().items():
            lag.add_metric((place.topic, str(place.partition)), records)
        return (
            events,
            lag,
            CounterMetricFamily(
                "headrace_worker_items", "Changes of the catalogue.", progress.items
            ),
            CounterMetricFamily(
                "headrace_worker_dead_letters", "Records that went there.", progress.dead_letters
            ),
            CounterMetricFamily(
                "headrace_worker_impressions", "Lists that were served, kept.", progress.impressions
            ),
            CounterMetricFamily(
                "headrace_worker_scored_events",
                "Events scored against the list that their user was served before.",
                progress.scored,
            ),
        )
