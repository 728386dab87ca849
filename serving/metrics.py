"""Prometheus metrics of one server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence, Sized

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from serving.admission import Admission
from serving.evaluation import EvaluationCache
from serving.impressions import ImpressionLog
from serving.live_model import LiveModel
from serving.taking_up import Followed
from serving.worker_metrics import WorkerMetrics

_SHOWN_EVERY_S = 1.0
_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Requests by route and status, their latency, open streams, versions and how they fare."""

    def __init__(
        self,
        lives: Mapping[str, LiveModel],
        followed: Mapping[str, Followed],
        open_streams: Sized,
        impressions: Sequence[ImpressionLog],
        evaluations: Mapping[str, EvaluationCache],
        admission: Admission,
        workers: WorkerMetrics | None = None,
    ) -> None:
        """`lives`: what each model has live, by its id; `followed`: with those that help others.

        `evaluations`: by topic of clicks.
        `workers`: with whom this process shares the server, if it does.
        """
        self._workers = workers
        self._registry = CollectorRegistry()
        self._registry.register(_Versions(lives, followed))
        self._registry.register(_Refusals(lives, followed))
        self._registry.register(_Impressions(impressions))
        self._registry.register(_Evaluation(evaluations))
        Gauge(
            "headrace_open_streams",
            "Streams of recommendations that are open.",
            registry=self._registry,
        ).set_function(lambda: len(open_streams))
        Gauge(
            "headrace_requests_in_hand",
            "Requests for recommendations that are being answered.",
            registry=self._registry,
        ).set_function(lambda: admission.in_hand)
        Gauge(
            "headrace_admission_limit",
            "How many requests for recommendations may be in hand now.",
            registry=self._registry,
        ).set_function(lambda: admission.limit)
        self._registry.register(_Refused(admission))
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
        self._of: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        which = route, method, status
        if which not in self._of:
            # Looked up once: that takes several times as long as counting.
            self._of[which] = (
                self._requests.labels(route, method, str(status)),
                self._seconds.labels(route),
            )
        requests, times = self._of[which]
        requests.inc()
        times.observe(seconds)

    def expose(self) -> bytes:
        """Return the metrics in Prometheus's text format, those of the server's other workers too.

        Reads files, if there are others.
        """
        if self._workers is None:
            return generate_latest(self._registry)
        return self._workers.expose(self._registry)

    async def follow(self) -> None:
        """Show other workers these metrics, again and again, until cancelled."""
        while self._workers is not None:
            await asyncio.to_thread(self._workers.write, self._registry)
            await asyncio.sleep(_SHOWN_EVERY_S)


class _Refused(Collector):
    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def collect(self) -> Iterable[CounterMetricFamily]:
        return [
            CounterMetricFamily(
                "headrace_requests_refused",
                "Requests for recommendations answered with 503, for too many were in hand.",
                self._admission.refused,
            )
        ]


class _Versions(Collector):
    def __init__(self, lives: Mapping[str, LiveModel], followed: Mapping[str, Followed]) -> None:
        self._lives, self._followed = lives, followed

    def collect(self) -> Iterable[Metric]:
        family = InfoMetricFamily(
            "headrace_live_model",
            "The version that this server has live, of each model.",
            labels=("model",),
        )
        arms = GaugeMetricFamily(
            "headrace_arm_ready",
            "Of a version of the A/B test, whether this server answers with it; 0: its users get "
            "the live one.",
            labels=("version",),
        )
        for model_id, each in self._followed.items():
            if each.version is not None:
                family.add_metric((model_id,), {"version": each.version})
        for live in self._lives.values():
            for version, state in live.arms.items():
                arms.add_metric((version,), state == "ready")
        return [family, arms]


class _Impressions(Collector):
    def __init__(self, impressions: Sequence[ImpressionLog]) -> None:
        self._impressions = impressions

    def collect(self) -> Iterable[Metric]:
        counts = CounterMetricFamily(
            "headrace_impressions",
            "Lists served: logged to Kafka, or dropped, for Kafka was away too long.",
            labels=("outcome",),
        )
        counts.add_metric(("logged",), sum(each.logged for each in self._impressions))
        counts.add_metric(("dropped",), sum(each.dropped for each in self._impressions))
        waiting = GaugeMetricFamily(
            "headrace_impressions_waiting", "Lists served that wait for Kafka."
        )
        waiting.add_metric((), sum(map(len, self._impressions)))
        return [counts, waiting]


class _Evaluation(Collector):
    """The same on every server: what users did with the lists of all."""

    def __init__(self, evaluations: Mapping[str, EvaluationCache]) -> None:
        self._evaluations = evaluations

    def collect(self) -> Iterable[Metric]:
        events = GaugeMetricFamily(
            "headrace_evaluated_events",
            "Positive events in the window after a list of the version, of models by their topic.",
            labels=("topic", "version"),
        )
        hit_rate = GaugeMetricFamily(
            "headrace_hit_rate",
            "HR@k of a version's lists in the window.",
            labels=("topic", "version", "k"),
        )
        ndcg = GaugeMetricFamily(
            "headrace_ndcg",
            "NDCG@k of a version's lists in the window.",
            labels=("topic", "version", "k"),
        )
        for topic, evaluation in self._evaluations.items():
            k = str(evaluation.k)
            for label, score in evaluation.scores.items():
                events.add_metric((topic, label), score.events)
                hit_rate.add_metric((topic, label, k), score.hit_rate)
                ndcg.add_metric((topic, label, k), score.ndcg)
        return [events, hit_rate, ndcg]


class _Refusals(Collector):
    def __init__(self, lives: Mapping[str, LiveModel], followed: Mapping[str, Followed]) -> None:
        self._lives, self._followed = lives, followed

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(
            "headrace_versions_refused",
            "Versions that this server did not take up.",
            value=sum(each.refusals for each in self._followed.values()),
        )
        yield CounterMetricFamily(
            "headrace_version_failures",
            "Requests that a version failed to answer: another one did, popular items stood in, or "
            "retrieval's order did for a second stage.",
            value=sum(live.failures for live in self._lives.values()),
        )
        family = InfoMetricFamily(
            "headrace_refused_model",
            "The version that is live and not served here, and why, of each model.",
            labels=("model",),
        )
        for model_id, each in self._followed.items():
            if (refusal := each.refusal) is not None:
                told = {"version": refusal.version, "reason": refusal.reason}
                family.add_metric((model_id,), told)
        yield family
