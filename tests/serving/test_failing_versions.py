"""A version that fails while it serves: there is an answer all the same, and it says so."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from serving_tools import V1, V2, activate, ring, walk

from headrace.sessions import SessionStore
from models.retrieval.retriever import Retriever
from serving.messages import DIVERSITY_FAILS, MODEL_FAILS, REASONS_FAIL, STAND_IN
from serving.services import Services


def services(client: httpx.AsyncClient) -> Services:
    found: Services = client._transport.app.state.services  # type: ignore[attr-defined]
    return found


def break_tower(client: httpx.AsyncClient, folder: Path) -> None:
    """Give the live version an interpreter without memory, which refuses each call."""
    tower = live_version(client)._search._encode._tower
    tower._interpreter = Interpreter(model_content=(folder / "query_tower.tflite").read_bytes())


def live_version(client: httpx.AsyncClient) -> Retriever:
    found = services(client).live.retriever
    assert found is not None
    return found


async def recommend(client: httpx.AsyncClient, **asked: Any) -> dict[str, Any]:
    answer = await client.post("/v1/recommendations", json={"user_id": "ann", **asked})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def ids(answer: dict[str, Any]) -> list[str]:
    return [each["id"] for each in answer["recommendations"]]


async def test_when_the_tower_fails_popular_items_stand_in(
    client: httpx.AsyncClient, add_version: Callable[[str], Path], sessions: SessionStore
) -> None:
    folder = add_version(V1)
    await activate(client, V1)
    await walk(sessions, "ann", 3, 4)
    break_tower(client, folder)
    answer = await recommend(client, k=5, explain=True)
    assert (answer["message"], answer["model"]) == (MODEL_FAILS, None)
    assert len(ids(answer)) == 5
    assert not {ring(3), ring(4)} & {*ids(answer)}
    assert answer["session"]["interactions"] == 2
    asked = {"candidate_ids": ["nothing", ring(9), ring(4), ring(8)]}
    answer = await recommend(
        client, **asked, filter={"item_id": {"in": [ring(9), ring(4), ring(8)]}}
    )
    assert ids(answer) == [ring(9), ring(8)]
    assert answer["message"] == "The model fails to answer: scores are 0."
    told = (await client.get("/metrics")).text
    assert "headrace_version_failures_total 2.0" in told


async def test_the_version_before_stands_in_for_one_that_fails(
    live: httpx.AsyncClient, add_version: Callable[[str], Path], sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 3, 4)
    before = await recommend(live, k=3)
    folder = add_version(V2)
    await activate(live, V2)
    break_tower(live, folder)
    answer = await recommend(live, k=3)
    assert (answer["message"], answer["model"]["version"]) == (STAND_IN, V1)
    assert answer["recommendations"] == before["recommendations"]
    # What it has no scores for, it says by itself.
    assert ids(await recommend(live, k=2, candidate_ids=["x", ring(5)])) == [ring(5), "x"]


async def test_a_tower_that_answers_with_no_numbers_has_failed(
    live: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 3, 4)
    live_version(live)._items.vectors[:] = np.nan
    answer = await recommend(live, k=3)
    assert (answer["message"], answer["model"]) == (MODEL_FAILS, None)
    assert [each["score"] for each in answer["recommendations"]] == [0.0] * 3


async def test_what_fails_once_the_list_is_there_leaves_it_as_it_is(
    live: httpx.AsyncClient, sessions: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await walk(sessions, "ann", 3, 4)
    plain = await recommend(live, k=3)
    version = live_version(live)
    monkeypatch.setattr(version, "diversify", refuse)
    alike = await recommend(live, k=3, diversity=0.5)
    assert (alike["message"], alike["recommendations"]) == (
        DIVERSITY_FAILS, plain["recommendations"]
    )  # fmt: skip
    # A list takes one call of the tower; the reasons take those after it.
    encode, calls = version._search._encode, itertools.count()

    def at_first(*asked: Any) -> Any:
        return encode(*asked) if next(calls) == 0 else refuse()

    monkeypatch.setattr(version._search, "_encode", at_first)
    unexplained = await recommend(live, k=3, explain=True)
    assert (unexplained["message"], unexplained["recommendations"]) == (
        REASONS_FAIL, plain["recommendations"]
    )  # fmt: skip
    assert unexplained["model"]["version"] == V1
    assert "headrace_version_failures_total 2.0" in (await live.get("/metrics")).text


def refuse(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no memory")
