"""An A/B test over HTTP: users keep their version, the live one answers for a missing one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from parts import eventually
from redis.asyncio import Redis
from serving_tools import V1, V2, V3, Serve, activate, ring, walk

from headrace.experiment import experiment_of
from headrace.sessions import SessionStore
from headrace.settings import ExperimentSettings, Settings
from headrace.topics import ensure_topics
from serving import live_model

USERS = [f"user-{n}" for n in range(40)]


@pytest.fixture
def split(settings: Settings) -> Settings:
    """Half of the users get the second version."""
    return msgspec.structs.replace(
        settings, experiment=ExperimentSettings(name="spring", arms=f"{V2}=0.5")
    )


async def version_of(client: httpx.AsyncClient, **asked: Any) -> str:
    answer = (await client.post("/v1/recommendations", json=asked)).json()
    return str(answer["model"]["version"])


async def until_arms(client: httpx.AsyncClient, **states: str) -> None:
    async def holds() -> bool:
        arms = (await client.get("/readyz")).json()["arms"]
        return list(arms) == [V2] and all(words in arms[V2] for words in states.values())

    await eventually(holds, f"the arm is {states}")


async def test_users_are_split_and_keep_their_version_on_every_server(
    split: Settings,
    settings: Settings,
    serve: Serve,
    add_version: Callable[[str], Path],
    sessions: SessionStore,
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    for version in (V1, V2, V3):
        add_version(version)
    for user in USERS:
        await walk(sessions, user, 1, 2)
    experiment = experiment_of(split.experiment)
    async with serve(split) as one, serve(split) as other:
        await activate(one, V1)
        for server in (one, other):
            await until_arms(server, state="ready")
        expected = {user: experiment.version_for(user) or V1 for user in USERS}
        assert set(expected.values()) == {V1, V2}
        for server in (one, other):
            assert {user: await version_of(server, user_id=user) for user in USERS} == expected
        # A session of nobody's is the live version's.
        brought = {ring(1): {"timestamp": 1.0}}
        assert await version_of(one, user_interactions=brought) == V1
        shares = (await one.get("/v1/models/default/versions")).json()["versions"]
        assert {row["version"]: row["share"] for row in shares} == {V1: None, V2: 0.5, V3: None}
        assert f'headrace_arm_ready{{version="{V2}"}} 1.0' in (await one.get("/metrics")).text
        # Another live version changes nothing for those who have the arm.
        await activate(one, V3)
        expected = {user: experiment.version_for(user) or V3 for user in USERS}
        assert {user: await version_of(one, user_id=user) for user in USERS} == expected
        # Live for all, and then for its share alone again.
        await activate(one, V2)
        assert {await version_of(one, user_id=user) for user in USERS} == {V2}
        await activate(one, V1)
        expected = {user: experiment.version_for(user) or V1 for user in USERS}
        assert {user: await version_of(one, user_id=user) for user in USERS} == expected


async def test_a_change_of_the_catalogue_reaches_every_version(
    split: Settings,
    settings: Settings,
    serve: Serve,
    add_version: Callable[[str], Path],
    sessions: SessionStore,
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    for version in (V1, V2):
        add_version(version)
    experiment = experiment_of(split.experiment)
    arms = [next(user for user in USERS if experiment.version_for(user) == arm)
            for arm in (None, V2)]  # fmt: skip
    for user in arms:
        await walk(sessions, user, 1, 2)

    async def shown(client: httpx.AsyncClient, user: str) -> set[str]:
        answer = await client.post("/v1/recommendations", json={"user_id": user, "k": 60})
        return {row["id"] for row in answer.json()["recommendations"]}

    async with serve(split) as client:
        await activate(client, V1)
        # Before the arm is there, and after.
        await client.put("/v1/items/early", json={"categories": ["ring"]})
        await client.delete(f"/v1/items/{ring(5)}")
        await until_arms(client, state="ready")
        await client.put("/v1/items/late", json={"categories": ["ring"]})
        await client.delete(f"/v1/items/{ring(6)}")
        for user in arms:
            items = await shown(client, user)
            assert {"early", "late"} <= items
            assert not {ring(5), ring(6)} & items


async def test_the_live_version_answers_for_one_that_cannot_be_loaded_until_it_can(
    split: Settings,
    settings: Settings,
    serve: Serve,
    add_version: Callable[[str], Path],
    sessions: SessionStore,
    redis: Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_model, "_ARMS_AGAIN_S", 0.1)
    await asyncio.to_thread(ensure_topics, settings)
    add_version(V1)
    damaged = add_version(V2)
    (damaged / "item_vectors.npy").write_bytes(b"")
    for user in USERS:
        await walk(sessions, user, 1, 2)
    async with serve(split) as client:
        await activate(client, V1)
        await until_arms(client, state="item_vectors.npy")
        assert (await client.get("/readyz")).status_code == 200
        assert {await version_of(client, user_id=user) for user in USERS} == {V1}
        assert f"arm {V2}: its users get the live version" in caplog.text
        assert f'headrace_arm_ready{{version="{V2}"}} 0.0' in (await client.get("/metrics")).text
        shutil.rmtree(damaged)
        add_version(V2)
        await until_arms(client, state="ready")
        assert {await version_of(client, user_id=user) for user in USERS} == {V1, V2}
