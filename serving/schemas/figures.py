"""Figures over time."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Percentiles(Struct, frozen=True):
    """A time at each step, in milliseconds, within 5 %; None where nothing was counted."""

    p50: list[float | None]
    p95: list[float | None]
    p99: list[float | None]


class RouteFigures(Struct, frozen=True):
    """Requests to one route over the whole window."""

    route: str
    method: str
    requests: int
    client_errors: int
    """Answered with 4xx."""
    server_errors: int
    """Answered with 5xx."""
    p50_ms: float | None
    """None of streams."""
    p95_ms: float | None
    p99_ms: float | None


class QualitySeries(Struct, frozen=True):
    """How lists of one label fared, at each step over the time before it."""

    events: list[int]
    """Positive events after a list."""
    hit_rate: list[float | None]
    ndcg: list[float | None]


class Quality(Struct, frozen=True):
    """HR@k and NDCG@k of lists that were served, judged by what their users did next."""

    k: int
    over_s: int
    """Each step tells of so many seconds up to its end."""
    by_label: dict[str, QualitySeries]
    """By version; `trending`: of lists that no version made; `popularity`: had everybody been shown
    the items that are popular."""


class Swap(Struct, frozen=True):
    """A version that went live."""

    model_id: str
    version: str
    at: float
    """Unix seconds."""
    reason: str


class Figures(Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/figures`: series as long as `at`. None: nothing was told of that step."""

    window: Literal["1h", "1d"]
    step_s: int
    at: list[int]
    """When each step begins, in Unix seconds, oldest first."""
    events_per_s: dict[str, list[float | None]]
    """By topic, events that workers applied."""
    lag: dict[str, list[float | None]]
    """By topic, records that workers have still to do: of each partition the highest told in the
    step, added up."""
    freshness_ms: Percentiles
    """From a record's own time until its effects stood in Redis, the oldest of a batch for all."""
    requests_per_s: list[float | None]
    """To all servers."""
    client_errors_per_s: list[float | None]
    server_errors_per_s: list[float | None]
    latency_ms: Percentiles
    """From a request to the end of its answer; without streams."""
    routes: list[RouteFigures]
    """Those with most requests first."""
    quality: Quality
    swaps: list[Swap]
    """Oldest first."""
    told_at: dict[str, float | None]
    """When a `worker` and a `server` told last, in Unix seconds."""
