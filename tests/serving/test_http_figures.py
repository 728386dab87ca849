"""Figures over time over HTTP: of this server's own requests, of workers, and of versions."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from events_log import logged
from redis.asyncio import Redis
from serving_tools import V1, V2, activate, check_problem

from headrace.dead_letters import Record
from headrace.evaluation import Score
from headrace.figures import FiguresStore, Tally
from headrace.settings import Settings
from headrace.topics import Place, TopicId, Topics
from streams.figures import WorkerFigures
from streams.progress import Progress

Versions = Callable[[str], Path]


async def figures(client: httpx.AsyncClient, window: str = "1h") -> Any:
    answer = await client.get("/v1/figures", params={"window": window})
    assert answer.status_code == 200, answer.text
    return answer.json()


def last(series: list[Any]) -> Any:
    """What was told last."""
    return next((value for value in reversed(series) if value is not None), None)


@pytest.mark.parametrize(("window", "steps", "step_s"), [("1h", 360, 10), ("1d", 288, 300)])
async def test_nothing_told_is_no_figure(
    client: httpx.AsyncClient, window: str, steps: int, step_s: int
) -> None:
    told = await figures(client, window)
    assert len(told["at"]) == steps
    assert told["step_s"] == step_s
    assert told["at"][-1] <= time.time() < told["at"][-1] + 2 * step_s
    assert set(told["requests_per_s"]) == {None}
    assert set(told["latency_ms"]["p99"]) == {None}
    assert (told["events_per_s"], told["lag"], told["routes"], told["swaps"]) == ({}, {}, [], [])
    assert told["told_at"] == {"worker": None, "server": None}
    check_problem(
        await client.get("/v1/figures", params={"window": "1w"}), 422, "window: Expected one of"
    )


async def test_requests_are_told_by_route(
    live: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    for _ in range(20):
        await live.post("/v1/recommendations", json={"user_id": "walker-1"})
    for _ in range(3):
        await live.post("/v1/recommendations", json={"k": 0})
    await live.get("/readyz")
    await live.get("/v1/nowhere")
    server = live._transport.app.state.services  # type: ignore[attr-defined]
    await server.request_figures.tell()

    told = await figures(live)
    [asked] = [each for each in told["routes"] if each["route"] == "/v1/recommendations"]
    assert (asked["method"], asked["requests"]) == ("POST", 23)
    assert (asked["client_errors"], asked["server_errors"]) == (3, 0)
    assert 0 < asked["p50_ms"] <= asked["p95_ms"] <= asked["p99_ms"]
    assert {each["route"] for each in told["routes"]} == {
        "/v1/recommendations",
        "/v1/models/{model_id}/versions/{version}/activate",
    }
    # 20 and 3 and the activation, in a step of ten seconds of which five or more have been told.
    assert 2.4 <= last(told["requests_per_s"]) <= 4.8
    assert 0.3 <= last(told["client_errors_per_s"]) <= 0.6
    assert last(told["server_errors_per_s"]) == 0.0
    assert last(told["latency_ms"]["p50"]) > 0
    [swap] = told["swaps"]
    assert (swap["model_id"], swap["version"], swap["reason"]) == ("default", V1, "activated")


async def test_workers_tell_events_lag_freshness_and_how_lists_fare(
    client: httpx.AsyncClient, redis: Redis, settings: Settings
) -> None:
    now = time.time()
    names = {name: TopicId(name, "id", 2) for name in Topics(settings).events}
    progress = Progress(Topics(settings), names)
    tally = Tally(FiguresStore(redis, settings), "worker", lambda: now)
    lags = {Place("ratings", "id", 0): 3, Place("ratings", "id", 1): 4}
    worker = WorkerFigures(tally, progress, lambda: lags)
    progress.applied([logged(0), logged(1), logged(2)], ["new", "known", "new"])
    progress.judged({V1: Score(4, 1, 500_000), "popularity": Score(4, 2, 1_000_000)})
    name = Topics(settings).name("ratings")
    worker.done([Record(name, 0, at, now - ago, None, b"") for at, ago in ((1, 0.2), (2, 0.1))])
    await worker.tell()
    # Told once more, nothing counts again; a lag that came and went within a step is not forgotten.
    lags = dict.fromkeys(lags, 0)
    await worker.tell()

    told = await figures(client)
    assert 0.2 <= last(told["events_per_s"]["ratings"]) <= 0.4
    assert last(told["events_per_s"]["clicks"]) == 0.0
    assert last(told["lag"]["ratings"]) == 7
    assert last((await figures(client, "1d"))["lag"]["ratings"]) == 7
    assert last(told["freshness_ms"]["p50"]) == pytest.approx(200, rel=0.06)
    assert told["quality"]["k"] == 10
    of_version, popular = (told["quality"]["by_label"][label] for label in (V1, "popularity"))
    # Of the last five minutes, in each step; before the first event there is nothing to tell.
    assert (of_version["events"][-1], of_version["hit_rate"][-1]) == (4, 0.25)
    assert (of_version["ndcg"][-1], popular["hit_rate"][-1]) == (0.125, 0.5)
    assert of_version["hit_rate"][0] is None
    assert told["told_at"] == {"worker": now, "server": None}


async def test_both_swaps_are_marked(live: httpx.AsyncClient, add_version: Versions) -> None:
    add_version(V2)
    await activate(live, V2)
    told = await figures(live)
    assert [swap["version"] for swap in told["swaps"]] == [V1, V2]
    assert told["at"][0] < told["swaps"][0]["at"] <= told["swaps"][1]["at"]
