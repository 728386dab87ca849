"""Replays over HTTP: asked for, run by a job, ended, gone on with, promoted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from parts import PATIENCE_S, eventually
from redis.asyncio import Redis
from serving_tools import check_problem
from state_tools import Log, check_against_log, read_log

from headrace import state
from headrace.cancellation import cancel_until_done
from headrace.replaying import queue
from headrace.replaying.job import run_job
from headrace.replaying.queue import LeaseLapsed, ReplayQueue
from headrace.replaying.shadow import Shadow
from headrace.settings import Settings
from models.training.replays import Replays

USERS, EVENTS = 8, 600


@pytest.fixture
def shadow(settings: Settings) -> str:
    """A namespace that no other test has."""
    return f"{settings.namespace}-shadow"


async def ask(client: httpx.AsyncClient, **fields: Any) -> Any:
    answer = await client.post("/v1/replays", json=fields)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert answer.headers["location"] == f"/v1/replays/{told['id']}"
    assert (told["status"], told["progress"]) == ("QUEUED", 0.0)
    return told


async def look(client: httpx.AsyncClient, replay: dict[str, Any]) -> Any:
    return (await client.get(f"/v1/replays/{replay['id']}")).json()


async def counted(client: httpx.AsyncClient, settings: Settings, **fields: Any) -> Any:
    """Make a dry run, and return it at its end."""
    dry = await ask(client, **fields, dry_run=True)
    await run_job(settings)
    return await look(client, dry)


@asynccontextmanager
async def job(settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """A job that runs beside the block."""
    running = asyncio.create_task(run_job(settings))
    try:
        yield running
    finally:
        await cancel_until_done(running)


async def test_a_window_is_counted_replayed_into_a_shadow_and_promoted(
    client: httpx.AsyncClient, settings: Settings, redis: Redis, shadow: str
) -> None:
    log = Log(settings, USERS)
    await asyncio.to_thread(log.send, EVENTS)
    await asyncio.to_thread(log.send_wrong, "clicks")
    events = await asyncio.to_thread(read_log, settings)

    dry = await ask(client, into=shadow, dry_run=True)
    await run_job(settings)
    dry = await look(client, dry)
    assert (dry["status"], dry["progress"], dry["state_hash"]) == ("SUCCEEDED", 1.0, None)
    assert (dry["records"], dry["total"]) == (EVENTS + 2, EVENTS + 2)
    assert sum(outcomes["read"] for outcomes in dry["counts"].values()) == EVENTS
    assert dry["counts"]["clicks"]["invalid"] == 2
    assert await Shadow(redis, settings, shadow).read() is None
    promote = await client.post(f"/v1/replays/{dry['id']}/promote")
    check_problem(promote, 409, "has filled no shadow")

    made = await ask(client, into=shadow)
    busy = await client.post("/v1/replays", json={"into": shadow})
    check_problem(busy, 409, f"Replay {made['id']} into {shadow} has not ended")
    # What the replay would be told a dry run of it is told, too.
    busy = await client.post("/v1/replays", json={"into": shadow, "dry_run": True})
    check_problem(busy, 409, f"Replay {made['id']} into {shadow} has not ended")
    early = await client.post(f"/v1/replays/{made['id']}/promote")
    check_problem(early, 409, "is QUEUED; only a whole one is promoted")
    await run_job(settings)
    made = await look(client, made)
    assert made["status"] == "SUCCEEDED"
    assert len(made["state_hash"]) == 64
    assert sum(outcomes["new"] for outcomes in made["counts"].values()) == EVENTS

    promoted = (await client.post(f"/v1/replays/{made['id']}/promote")).json()
    assert (promoted["action"], promoted["into"], promoted["status"]) == (
        "promote", shadow, "QUEUED",
    )  # fmt: skip
    await run_job(settings)
    promoted = await look(client, promoted)
    assert (promoted["status"], promoted["error"]) == ("SUCCEEDED", None)
    await check_against_log(settings, redis, events)

    listed = (await client.get("/v1/replays")).json()["replays"]
    assert [each["id"] for each in listed] == [promoted["id"], made["id"], dry["id"]]
    again = await client.post(f"/v1/replays/{made['id']}/resume")
    check_problem(again, 409, "is SUCCEEDED: there is nothing to go on with")


async def test_one_that_is_cancelled_goes_on_where_it_was_left(
    client: httpx.AsyncClient, settings: Settings, redis: Redis, shadow: str
) -> None:
    await asyncio.to_thread(Log(settings, USERS).send, 9_000)
    # Each batch waits for its turn: it is broken off in the middle.
    made = await ask(client, into=shadow, rate=4_000)
    async with job(settings):

        async def begun() -> bool:
            return bool((await look(client, made))["records"] > 0)

        await eventually(begun, "it is under way")
        cancelled = await client.delete(f"/v1/replays/{made['id']}")
        assert cancelled.status_code == 202

        async def ended() -> bool:
            return bool((await look(client, made))["status"] == "CANCELLED")

        await eventually(ended, "it has ended")
    left = await look(client, made)
    assert 0 < left["records"] < left["total"]
    record = await Shadow(redis, settings, shadow).read()
    assert record is not None
    assert not record.is_complete
    assert (await client.delete(f"/v1/replays/{made['id']}")).json()["status"] == "CANCELLED"

    rest = await counted(client, settings, into=shadow)
    assert (rest["status"], rest["goes_on"]) == ("SUCCEEDED", True)
    applied = sum(outcomes["new"] for outcomes in left["counts"].values())
    assert rest["counts"].keys() == {"clicks", "ratings", "purchases"}
    assert sum(outcomes["read"] for outcomes in rest["counts"].values()) == 9_000 - applied
    otherwise = await counted(client, settings, into=shadow, topics=["clicks"])
    assert (otherwise["status"], otherwise["goes_on"]) == ("FAILED", None)
    assert "--topics was" in otherwise["error"]

    resumed = await client.post(f"/v1/replays/{made['id']}/resume")
    assert (resumed.status_code, resumed.json()["status"]) == (202, "QUEUED")
    await run_job(settings)
    whole = await look(client, made)
    assert (whole["status"], whole["records"]) == ("SUCCEEDED", whole["total"])
    # Each event was applied once, and counted by the one of the two that applied it.
    assert sum(outcomes["new"] for outcomes in whole["counts"].values()) == 9_000
    assert all("known" not in outcomes for outcomes in whole["counts"].values())

    refused = await counted(client, settings, into=shadow)
    assert refused["status"] == "FAILED"
    assert f"{shadow} holds a replay that is complete" in refused["error"]
    anew = await counted(client, settings, into=shadow, anew=True)
    assert (anew["status"], anew["goes_on"], anew["anew"]) == ("SUCCEEDED", False, True)
    assert sum(outcomes["read"] for outcomes in anew["counts"].values()) == 9_000


async def test_one_that_is_cancelled_while_it_deletes_leaves_nothing_to_promote(
    client: httpx.AsyncClient,
    settings: Settings,
    redis: Redis,
    shadow: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await asyncio.to_thread(Log(settings, USERS).send, EVENTS)
    first = await ask(client, into=shadow)
    await run_job(settings)
    first = await look(client, first)
    halfway = asyncio.Event()

    async def delete_half(redis: Redis, keys: Sequence[bytes]) -> None:
        await state.delete_keys(redis, keys[::2])
        halfway.set()
        await asyncio.Event().wait()

    anew = await ask(client, into=shadow, anew=True)
    with monkeypatch.context() as patched:
        patched.setattr("headrace.replaying.shadow.delete_keys", delete_half)
        async with job(settings) as running:
            await asyncio.wait_for(halfway.wait(), PATIENCE_S)
            await client.delete(f"/v1/replays/{anew['id']}")
            await running
    left = await look(client, anew)
    assert (left["status"], left["anew"], left["total"]) == ("CANCELLED", False, first["total"])

    early = (await client.post(f"/v1/replays/{first['id']}/promote")).json()
    await run_job(settings)
    early = await look(client, early)
    assert early["status"] == "FAILED"
    assert f"The replay into {shadow} has not come to its end" in early["error"]

    # What is left goes first, and nothing of it counts.
    await client.post(f"/v1/replays/{anew['id']}/resume")
    await run_job(settings)
    whole = await look(client, anew)
    assert (whole["status"], whole["state_hash"]) == ("SUCCEEDED", first["state_hash"])
    assert sum(outcomes["new"] for outcomes in whole["counts"].values()) == EVENTS


async def test_one_that_waits_is_cancelled_at_once_and_one_that_fails_says_why(
    client: httpx.AsyncClient, settings: Settings, redis: Redis, shadow: str
) -> None:
    waiting = await ask(client, into=shadow)
    cancelled = await client.delete(f"/v1/replays/{waiting['id']}")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
    await run_job(settings)
    assert (await look(client, waiting))["started_at"] is None

    await redis.set(f"{shadow}:something", "of somebody else's")
    failing = await ask(client, into=shadow, anew=True)
    await run_job(settings)
    failed = await look(client, failing)
    assert failed["status"] == "FAILED"
    assert f"The namespace {shadow} holds" in failed["error"]
    over = await client.delete(f"/v1/replays/{failing['id']}")
    check_problem(over, 409, "has ended already: FAILED")


async def test_a_job_that_dies_is_followed_by_another(
    client: httpx.AsyncClient,
    settings: Settings,
    redis: Redis,
    shadow: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "LEASE_MS", 50)
    replays = ReplayQueue(redis, settings)
    made = await ask(client, into=shadow)
    dead = await replays.claim("dead", now=1.0)
    assert dead is not None

    async def lapsed() -> bool:
        return await replays.waits()

    await eventually(lapsed, "its lease has lapsed")
    monkeypatch.undo()
    other = await replays.claim("other", now=2.0)
    assert other is not None
    assert (other.id, other.attempts, other.started_at) == (made["id"], 2, 1.0)
    with pytest.raises(LeaseLapsed):
        await replays.save(dead, "dead")
    assert await replays.claim("third", now=3.0) is None


async def test_the_trainer_runs_them_in_a_process_of_its_own(
    client: httpx.AsyncClient, settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(Log(settings, USERS).send, 50)
    made = await ask(client, topics=["ratings", "clicks"], dry_run=True)
    trainer = asyncio.create_task(Replays(settings, redis).run())
    try:

        async def done() -> bool:
            return bool((await look(client, made))["status"] == "SUCCEEDED")

        await eventually(done, "it has been run")
    finally:
        await cancel_until_done(trainer)
    # Workers have done nothing, so there is nothing to be done again in the live state.
    assert (await look(client, made))["total"] == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"into": "a b"}, "into: "),
        ({"topics": ["items"]}, "topics: Expected some of clicks"),
        ({"topics": []}, "topics: "),
        ({"from": "yesterday"}, "from: Expected beginning or a time"),
        ({"from": "2026-01-02", "to": "2026-01-01T00:00Z"}, "to: Expected a time after `from`"),
        ({"rate": -1}, "rate: "),
        ({"colour": "red"}, "colour: "),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], words: str
) -> None:
    check_problem(await client.post("/v1/replays", json=fields), 422, words)


async def test_other_refusals(client: httpx.AsyncClient, settings: Settings) -> None:
    into = {"into": settings.namespace}
    check_problem(await client.post("/v1/replays", json=into), 422, "is the live namespace")
    none = "/v1/replays/" + "0" * 32
    for method, path in (
        ("GET", none),
        ("DELETE", none),
        ("POST", f"{none}/resume"),
        ("POST", f"{none}/promote"),
    ):
        check_problem(await client.request(method, path), 404, "No replay has the id")
    check_problem(await client.get("/v1/replays/x"), 422, "32 hexadecimal digits")
    other = await client.post("/v1/replays", json={"model_id": "none-such"})
    check_problem(other, 404, "none-such")
    for _ in range(20):
        await ask(client, dry_run=True)
    check_problem(await client.post("/v1/replays", json={"dry_run": True}), 409, "20 replays")
