"""A second stage that is live reorders what is recommended, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from ai_edge_litert.interpreter import Interpreter
from parts import eventually
from ranking_tools import exported, sum_up, write_ranker
from redis.asyncio import Redis
from serving_tools import RING, V1, V2, Serve, check_problem, ring

from headrace.errors import ArtifactInvalid
from headrace.model_settings import ModelSettings
from headrace.producer import Producer
from headrace.settings import Settings
from headrace.topics import ensure_topics
from headrace.version_store import VersionStore
from serving.live_model import LiveModel
from serving.live_ranking import LiveRanking
from serving.recommender import RANKING_FAILS
from serving.version_loader import VersionLoader

PLACE = 3
"""Of the feature that tells a candidate's place in retrieval's list."""


def last_first(settings: Settings) -> None:
    """Write a version of the kind `ranking` that puts retrieval's last item first."""
    model = exported(lambda features: features[:, PLACE])
    write_ranker(Path(settings.artifacts) / "ranking" / V1, model)


@pytest.fixture(scope="module")
def reversing() -> bytes:
    return exported(lambda features: features[:, PLACE])


def reorder(folder: Path) -> None:
    """Every file is what the manifest says; what the ranker says is not what was trained."""
    (folder / "ranker.tflite").write_bytes(exported(lambda features: -features[:, PLACE]))
    sum_up(folder)


def say_nothing(folder: Path) -> None:
    nothing = exported(lambda features: features[:, PLACE] * float("nan"))
    (folder / "ranker.tflite").write_bytes(nothing)
    sum_up(folder)


def recalibrate(folder: Path) -> None:
    (folder / "calibration.json").write_text('{"slope": 1.0, "intercept": -0.5}')
    sum_up(folder)


def forget_probes(folder: Path) -> None:
    (folder / "probes.json").unlink()
    sum_up(folder)


def empty_probes(folder: Path) -> None:
    (folder / "probes.json").write_text("[]")
    sum_up(folder)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (reorder, "a score differs by"),
        (say_nothing, "answers with no numbers"),
        (recalibrate, "a score differs by"),
        (forget_probes, "probes.json: not listed"),
        (empty_probes, "there are none"),
    ],
)
def test_a_second_stage_that_is_not_what_was_trained_is_refused(
    harm: Callable[[Path], None], words: str, reversing: bytes, settings: Settings
) -> None:
    folder = write_ranker(Path(settings.artifacts) / "ranking" / V1, reversing)
    assert VersionLoader(settings).load_ranker("ranking", V1).manifest.version == V1
    harm(folder)
    with pytest.raises(ArtifactInvalid, match=words) as refused:
        VersionLoader(settings).load_ranker("ranking", V1)
    assert V1 in str(refused.value)


async def test_a_refused_second_stage_is_named_and_the_one_before_goes_on(
    client: httpx.AsyncClient,
    redis: Redis,
    serve: Serve,
    settings: Settings,
    reversing: bytes,
) -> None:
    for version in (V1, V2):
        write_ranker(Path(settings.artifacts) / "ranking" / version, reversing)
    path = "/v1/models/ranking/versions"
    assert (await client.post(f"{path}/{V1}/activate")).status_code == 200

    async def check_live(server: httpx.AsyncClient) -> None:
        async def is_there() -> bool:
            return LIVE in (await server.get("/metrics")).text

        await eventually(is_there, "the second stage is live")

    await check_live(client)
    recalibrate(Path(settings.artifacts) / "ranking" / V2)
    check_problem(await client.post(f"{path}/{V2}/activate"), 409, "probes")
    # Past that check, by a trainer whose disk is another one, say.
    store = VersionStore(redis, settings, Producer(settings))
    await store.activate("ranking", V2, now=2.0, reason="a test")

    async def check_refused(server: httpx.AsyncClient) -> None:
        async def refused() -> bool:
            return bool((await server.get("/readyz")).json()["refusals"])

        await eventually(refused, "the second stage is refused")
        ready = (await server.get("/readyz")).json()
        assert (ready["refused"], list(ready["refusals"])) == (None, ["ranking"])
        assert ready["refusals"]["ranking"]["version"] == V2
        assert "probes are not answered" in ready["refusals"]["ranking"]["reason"]
        shown = (await server.get("/metrics")).text
        assert "headrace_versions_refused_total 1.0" in shown
        assert f'headrace_refused_model_info{{model="ranking",reason="Version {V2}' in shown
        await check_live(server)

    await check_refused(client)
    # One that starts now has the one before to fall back on.
    async with serve(settings) as other:
        await check_refused(other)


LIVE = f'headrace_live_model_info{{model="ranking",version="{V1}"}}'


async def test_a_second_stage_is_refused_where_it_would_serve_nothing(
    serve: Serve, settings: Settings, add_version: Callable[[str], Path], reversing: bytes
) -> None:
    settings = msgspec.structs.replace(
        settings, models={"ranking": ModelSettings(), "other": ModelSettings()}
    )
    ensure_topics(settings)
    for model_id in ("ranking", "other"):
        write_ranker(Path(settings.artifacts) / model_id / V1, reversing)
    add_version(V1)
    async with serve(settings) as client:
        for model_id in ("default", "ranking", "other"):
            path = f"/v1/models/{model_id}/versions/{V1}/activate"
            assert (await client.post(path)).status_code == 200
        followed = client._transport.app.state.services.followed  # type: ignore[attr-defined]

        async def are_live() -> bool:
            return [followed[each].version for each in ("default", "ranking")] == [V1, V1]

        await eventually(are_live, "both are live")
        # What orders lists for no model finds nothing by itself.
        await eventually(lambda: settled(followed["other"]), "the other one was looked at")
        refusals = (await client.get("/readyz")).json()["refusals"]
        assert list(refusals) == ["other"]
        assert "it serves as a version of model ranking alone" in refusals["other"]["reason"]
        assert "headrace_versions_refused_total 1.0" in (await client.get("/metrics")).text


async def settled(model: LiveModel) -> bool:
    live = await model._versions.live("other")
    return live is not None and model._taking_up.is_settled(live)


async def test_the_live_second_stage_reorders(live: httpx.AsyncClient, settings: Settings) -> None:
    async def listed() -> list[dict[str, Any]]:
        body = {"user_interactions": {ring(1): {"timestamp": 1}}, "k": RING - 1}
        answer = (await live.post("/v1/recommendations", json=body)).json()
        items: list[dict[str, Any]] = answer["recommendations"]
        assert answer["model"] == {"id": "default", "version": V1}
        assert answer["ranking"] in (None, V1)
        lists.append(answer)
        return items

    lists: list[dict[str, Any]] = []
    before = [each["id"] for each in await listed()]
    assert lists[-1]["ranking"] is None
    last_first(settings)
    response = await live.post(f"/v1/models/ranking/versions/{V1}/activate", json={})
    assert response.status_code == 200, response.text

    async def reordered() -> bool:
        return [each["id"] for each in await listed()] == before[::-1]

    await eventually(reordered, "the second stage reorders")
    assert lists[-1]["ranking"] == V1
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
    # Of the first candidate alone, whose place is 0: no probe has one there.
    nothing = exported(lambda features: 1.0 / features[:, PLACE])
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
