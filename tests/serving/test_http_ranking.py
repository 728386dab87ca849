"""A second stage that is live reorders what is recommended, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from ai_edge_litert.interpreter import Interpreter
from parts import eventually
from ranking_tools import exported, write_ranker
from redis.asyncio import Redis
from serving_tools import RING, V1, V2, ring

from headrace.producer import Producer
from headrace.settings import Settings
from headrace.topics import ensure_topics
from headrace.version_store import VersionStore
from serving.live_ranking import LiveRanking
from serving.recommender import RANKING_FAILS
from serving.version_loader import VersionLoader

PLACE = 3
"""Of the feature that tells a candidate's place in retrieval's list."""


def last_first(settings: Settings) -> None:
    """Write a version of the kind `ranking` that puts retrieval's last item first."""
    model = exported(lambda features: features[:, PLACE])
    write_ranker(Path(settings.artifacts) / "ranking" / V1, model)


async def test_the_live_second_stage_reorders(live: httpx.AsyncClient, settings: Settings) -> None:
    async def listed() -> list[dict[str, Any]]:
        body = {"user_interactions": {ring(1): {"timestamp": 1}}, "k": RING - 1}
        answer = (await live.post("/v1/recommendations", json=body)).json()
        items: list[dict[str, Any]] = answer["recommendations"]
        assert answer["model"] == {"id": "default", "version": V1}
        return items

    before = [each["id"] for each in await listed()]
    last_first(settings)
    response = await live.post(f"/v1/models/ranking/versions/{V1}/activate", json={})
    assert response.status_code == 200, response.text

    async def reordered() -> bool:
        return [each["id"] for each in await listed()] == before[::-1]

    await eventually(reordered, "the second stage reorders")
    scores = [each["score"] for each in await listed()]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


async def test_a_second_stage_is_rolled_back(live: httpx.AsyncClient, settings: Settings) -> None:
    model = exported(lambda features: features[:, PLACE])
    for version in (V1, V2):
        write_ranker(Path(settings.artifacts) / "ranking" / version, model)
        path = f"/v1/models/ranking/versions/{version}/activate"
        assert (await live.post(path, json={})).status_code == 200
    back = await live.post("/v1/models/ranking/rollback")
    assert (back.status_code, back.json().get("version")) == (200, V1), back.text


async def test_a_second_stage_that_fails_leaves_the_order_of_retrieval(
    live: httpx.AsyncClient, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async def listed() -> dict[str, Any]:
        body = {"user_interactions": {ring(1): {"timestamp": 1}}, "k": 5}
        answer = await live.post("/v1/recommendations", json=body)
        assert answer.status_code == 200
        return {**answer.json(), "id": "", "cursor": ""}

    def ranking() -> LiveRanking:
        found: LiveRanking = live._transport.app.state.services.ranking  # type: ignore[attr-defined]
        return found

    async def is_there() -> bool:
        return ranking().ranker is not None

    before = await listed()
    nothing = exported(lambda features: features[:, PLACE] * float("nan"))
    write_ranker(Path(settings.artifacts) / "ranking" / V1, nothing)
    await live.post(f"/v1/models/ranking/versions/{V1}/activate", json={})
    await eventually(is_there, "the second stage is live")
    assert await listed() == {**before, "message": RANKING_FAILS}
    # One without memory refuses each call.
    ranker = ranking().ranker
    assert ranker is not None
    ranker.scorer._interpreter = Interpreter(model_content=nothing)
    assert await listed() == {**before, "message": RANKING_FAILS}
    assert "headrace_version_failures_total 2.0" in (await live.get("/metrics")).text
    told = [each.getMessage() for each in caplog.records if "fails to reorder" in each.getMessage()]
    assert len(told) == 1
    assert "answers with no numbers" in told[0]


async def test_a_second_stage_that_is_deleted_and_created_between_two_looks_is_let_go(
    redis: Redis, settings: Settings
) -> None:
    ensure_topics(settings)
    last_first(settings)
    producer = Producer(settings)
    versions = VersionStore(redis, settings, producer)
    ranking = LiveRanking(settings, versions, VersionLoader(settings))
    await versions.activate("ranking", V1, now=1.0, reason="a test")
    await ranking._look()
    assert ranking.ranker
    # What Redis has lost goes on serving.
    await redis.delete(versions._key("ranking"))
    await ranking._look()
    assert ranking.ranker
    await versions.delete_model("ranking", now=2.0, reason="deleted")
    await versions.create_model("ranking", now=3.0, reason="created")
    await ranking._look()
    assert ranking.ranker is None
    await producer.close()
