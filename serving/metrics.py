"""Prometheus metrics of one server."""

from __future__ import annotations

from collections.abc import Iterable, Sized

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.live_model import LiveModel

_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Requests by route and status, their latency, open streams, and the version that is live."""

    def __init__(self, live: LiveModel, open_streams: Sized) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_LiveVersion(live))
        self._registry.register(_Refusals(live))
        Gauge(
            "headrace_open_streams",
            "Streams of recommendations that are open.",
            registry=self._registry,
        ).set_function(lambda: len(open_streams))
        self._requests = Counter(
            "headrace_http_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "headrace_http_request_seconds",
            "Time from a request to the end of its answer.",
            ("route",),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def expose(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class _LiveVersion(Collector):
    def __init__(self, live: LiveModel) -> None:
        self._live = live

    def collect(self) -> Iterable[InfoMetricFamily]:
        family = InfoMetricFamily("headrace_live_model", "The version that this server has live.")
        if self._live.version is not None:
            family.add_metric((), {"version": self._live.version})
        return [family]


class _Refusals(Collector):
    def __init__(self, live: LiveModel) -> None:
        self._live = live

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(
            "headrace_versions_refused",
            "Versions that this server did not take up.",
            value=self._live.refusals,
        )
        family = InfoMetricFamily(
            "headrace_refused_model", "The version that is live and not served here, and why."
        )
        if (refusal := self._live.refusal) is not None:
            family.add_metric((), {"version": refusal.version, "reason": refusal.reason})
        yield family
