"""The whole: events in, a training by itself, recommendations that know the last event, a swap."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from kafka_tools import send_events
from parts import Part, eventually

from headrace.local.ports import claim_port
from headrace.settings import RetrainSettings, ServingSettings, Settings, TrainerSettings
from headrace.topics import ensure_topics
from headrace.training_settings import TrainingSettings

RING = 40
"""Items in a ring: who met item n meets item n + 1 next."""
WALKERS, STEPS = 50, 12
NEW = 20
"""Users who come once the first version is live."""


def step(user: int, at: int, start: float) -> dict[str, Any]:
    return {
        "event_id": f"walk-{user}-{at}",
        "user_id": f"user-{user}",
        "item_id": f"item-{(user + at) % RING}",
        "timestamp": start + at,
        "rating": 5.0,
    }


@pytest.mark.timeout(280)
async def test_the_whole_way_of_the_data(settings: Settings, tmp_path: Path) -> None:
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    first_lot = WALKERS * STEPS
    settings = msgspec.structs.replace(
        settings,
        serving=ServingSettings(port=port),
        retrain=RetrainSettings(every_events=first_lot),
        # Other tests may run meanwhile, to which a training would give way.
        trainer=TrainerSettings(niceness=0),
        training=TrainingSettings(
            width=16, session_length=6, min_events=100, min_steps=300, batch_size=16,
            learning_rate=0.01, future=1,
        ),
    )  # fmt: skip
    await asyncio.to_thread(ensure_topics, settings)
    start = time.time() - 3_600
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        with ExitStack() as stack:
            parts = [
                stack.enter_context(Part(command, settings, tmp_path))
                for command in ("worker", "trainer", "serve")
            ]
            await eventually(lambda: answers(client), "the server is ready")

            # 1. Events through Kafka and over HTTP: at the last one a retrain event fires.
            events = [step(user, at, start) for at in range(STEPS) for user in range(WALKERS)]
            half = len(events) // 2
            await asyncio.to_thread(send_events, settings, "ratings", events[:half])
            await post(client, events[half:])
            await until_versions(client, 1, parts)
            [task] = (await client.get("/v1/tasks")).json()["tasks"]
            assert (task["status"], task["requested_by"]) == ("SUCCEEDED", "worker")
            assert task["data"]["events"] == first_lot
            [version] = (await client.get("/v1/models/default/versions")).json()["versions"]
            assert version["live"]
            assert version["data"]["users"] == WALKERS

            # 2. Recommendations know the last event, of users no training has seen.
            right = 0
            for user in range(WALKERS, WALKERS + NEW):
                for at in range(3):
                    [event] = await post(client, [step(user, at, start)])
                    answer = await know(client, user, event)
                    right += answer["recommendations"][0]["id"] == f"item-{(user + at + 1) % RING}"
                assert answer["session"]["applied"] == 3
                assert answer["model"]["version"] == version["version"]
            assert right > 0.6 * 3 * NEW, f"{right} of {3 * NEW} next items are first"

            # 3. As many events again: the next version is swapped in while requests go on.
            swapped, asked = asyncio.Event(), []

            async def keep_asking() -> None:
                while not swapped.is_set():
                    answer = await client.post("/v1/recommendations", json={"user_id": "user-1"})
                    assert answer.status_code == 200, answer.text
                    asked.append(answer.json()["model"]["version"])
                    await asyncio.sleep(0.05)

            asking = asyncio.create_task(keep_asking())
            more = [step(u, a, start) for a in range(STEPS, 2 * STEPS) for u in range(WALKERS)]
            await post(client, more)
            await until_versions(client, 2, parts)
            await eventually(lambda: serves_another(client, version["version"]), "the swap")
            await asyncio.sleep(0.2)
            swapped.set()
            await asking
            assert len(set(asked)) == 2
            assert asked[0] == version["version"] != asked[-1]

            # 4. Nothing was lost or applied twice, and all parts end when told to.
            assert await applied_in_all(client) == 2 * first_lot + 3 * NEW
            for part in parts:
                assert part.runs
                assert part.end(signal.SIGTERM) == 0


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def serves_another(client: httpx.AsyncClient, version: str) -> bool:
    return bool((await client.get("/readyz")).json()["model"] != version)


async def post(client: httpx.AsyncClient, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send events as NDJSON; return what the server says of each."""
    lines = "\n".join(json.dumps({"type": "rating", **event}) for event in events)
    answer = await client.post(
        "/v1/events", content=lines, headers={"content-type": "application/x-ndjson"}
    )
    assert answer.status_code == 202, answer.text
    told: list[dict[str, Any]] = answer.json()["events"]
    return told


async def know(client: httpx.AsyncClient, user: int, event: dict[str, Any]) -> dict[str, Any]:
    """Ask until an answer knows of the event; return that answer."""
    found: dict[str, Any] = {}

    async def knows() -> bool:
        asked = {"user_id": f"user-{user}", "k": 5}
        answer = (await client.post("/v1/recommendations", json=asked)).json()
        found.update(answer)
        mark = answer["session"]["marks"].get(f"{event['topic']}/{event['partition']}", -1)
        return bool(mark >= event["offset"])

    await eventually(knows, f"recommendations know {event['event_id']}")
    return found


async def until_versions(client: httpx.AsyncClient, count: int, parts: list[Part]) -> None:
    """Wait until so many trainings have succeeded and the server has the last one's version."""
    deadline = time.monotonic() + 200
    while True:
        assert all(part.runs for part in parts)
        tasks = (await client.get("/v1/tasks")).json()["tasks"]
        assert not [task for task in tasks if task["status"] == "FAILED"], tasks
        done = [task["version"] for task in tasks if task["status"] == "SUCCEEDED"]
        live = (await client.get("/readyz")).json()["model"]
        if len(done) == count and live == done[0]:
            return
        assert time.monotonic() < deadline, tasks
        await asyncio.sleep(0.2)


async def applied_in_all(client: httpx.AsyncClient) -> int:
    total = 0
    for user in range(WALKERS + NEW):
        total += (await client.get(f"/v1/users/user-{user}/interactions")).json()["applied"]
    return total
