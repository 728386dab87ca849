"""Trainings over HTTP: asked for as JSON or with a file, refused with reasons, seen, cancelled."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from events_log import NOW
from kafka_tools import send_events, send_raw
from object_store import BUCKET, s3_server
from parts import eventually
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeout
from serving_tools import V1, Serve, activate, check_problem

from headrace.cancellation import cancel_until_done
from headrace.errors import DataUnavailable
from headrace.model_settings import ModelSettings
from headrace.settings import (
    GateSettings,
    RetrainSettings,
    ServingSettings,
    Settings,
    TrainerSettings,
    VersionSettings,
)
from headrace.task_store import Claim, TaskStore
from headrace.topics import ensure_topics
from headrace.training_data import kept_file
from headrace.training_requests import TrainingRequest
from headrace.training_settings import TrainingSettings
from headrace.uploads import Uploads
from models.training import runner
from models.training.job import train
from models.training.job_messages import Job, Report
from models.training.trainer import Trainer

TRAIN = "/v1/models/default/train"
CSV = b"user,item,when\n" + b"".join(b"u%d,i%d,%d\n" % (n % 9, n % 7, n) for n in range(200))
SCHEMA = {
    "type": "click",
    "columns": {"user_id": "user", "item_id": "item", "timestamp": "when"},
}


@pytest.fixture
def tasks(redis: Redis, settings: Settings) -> TaskStore:
    return TaskStore(redis, settings)


async def claimed(tasks: TaskStore) -> Claim:
    claim = await tasks.claim(now=1.0)
    assert claim is not None
    return claim


def uploads(settings: Settings) -> list[Path]:
    return sorted((Path(settings.artifacts) / ".uploads").glob("*"))


async def test_a_training_that_is_asked_for_is_a_task(client: httpx.AsyncClient) -> None:
    body = {
        "reason": "new season", "params": {"width": 32, "repeats": 1}, "idempotency_key": "k1",
        "epochs": 5, "mode": "full", "seed": 7, "global_data": True, "algorithm": "transformer",
    }  # fmt: skip
    answer = await client.post(TRAIN, json=body)
    assert answer.status_code == 202
    task = answer.json()
    assert (task["status"], task["reason"], task["requested_by"]) == (
        "QUEUED",
        "new season",
        "http",
    )
    assert task["params"] == {
        "params": {"width": 32.0, "repeats": 1.0}, "epochs": 5, "mode": "full", "seed": 7,
        "global_data": True, "algorithm": "transformer",
    }  # fmt: skip
    assert task["queue_position"] == 1
    assert answer.headers["location"] == f"/v1/tasks/{task['id']}"
    assert (await client.get(answer.headers["location"])).json() == task
    again = await client.post(TRAIN, json=body)
    assert (again.status_code, again.json()["id"]) == (202, task["id"])
    assert (await client.get("/v1/tasks")).json() == {"tasks": [task]}


class InThread:
    """A training as its process has it, in this process: TensorFlow takes seconds to import."""

    def __init__(self, settings: Settings, log: Path, **_: object) -> None:
        log.touch()
        self._settings = settings

    async def run(self, job: Job) -> Report:
        told = io.StringIO()
        await asyncio.to_thread(train, self._settings, job, told)
        return msgspec.json.decode(told.getvalue().splitlines()[-1], type=Report)


async def test_what_helps_a_model_is_trained_and_served_as_the_settings_are(
    settings: Settings,
    serve: Serve,
    tasks: TaskStore,
    add_version: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is similar is asked for over HTTP, a second stage on the topic."""
    settings = msgspec.structs.replace(
        settings,
        # Everyone meets seven items, over and over: what may be listed again can be found.
        training=TrainingSettings(
            width=8, session_length=4, epochs=1, min_steps=3, final_epochs=0, repeats=True
        ),
        # Nobody renews it here.
        trainer=TrainerSettings(lease_s=600.0),
        gate=GateSettings(tolerance=0.99),
    )
    ensure_topics(settings)
    # Ten users walk round them, all at the same pace.
    steps = [
        {
            "event_id": f"e{n}",
            "user_id": f"u{n % 10}",
            "item_id": f"item-{(n % 10 + n // 10) % 7}",
            "timestamp": NOW + n,
        }
        for n in range(800)
    ]
    send_events(settings, "clicks", steps)
    send_raw(settings, "retrain", [(b"ranking", b'{"model_id": "ranking"}')])
    async with serve(settings) as client:
        unknown = await client.post("/v1/models/cars/train")
        check_problem(unknown, 404, "there are default, items, ranking; HEADRACE_MODELS adds")
        asked = await client.post("/v1/models/items/train", json={"kind": "items"})
        assert asked.status_code == 202, asked.text
        add_version(V1)
        await activate(client, V1)

    monkeypatch.setattr(runner, "JobProcess", InThread)
    trainer = asyncio.create_task(Trainer(settings).run())
    try:
        for kind in ("items", "ranking"):

            async def has_ended(kind: str = kind) -> bool:
                found = await tasks.newest(kind=kind)
                assert not [task for task in found if task.error], found
                return [task.status for task in found] == ["SUCCEEDED"]

            await eventually(has_ended, f"{kind} is trained")
    finally:
        await cancel_until_done(trainer)

    async with serve(settings) as client:

        async def are_live() -> bool:
            return (await client.get("/metrics")).text.count("headrace_live_model_info{") == 3

        await eventually(are_live, "all are live")
        assert (await client.get("/readyz")).json()["refusals"] == {}
        session = {"user_interactions": {"item-1": {"timestamp": 1}}}
        answer = (await client.post("/v1/recommendations", json=session)).json()
        assert answer["model"] == {"id": "default", "version": V1}
        [version] = (await client.get("/v1/models/ranking/versions")).json()["versions"]
        assert (version["kind"], version["version"]) == ("ranking", answer["ranking"])
        [version] = (await client.get("/v1/models/items/versions")).json()["versions"]
        assert version["kind"] == "items"
        similar = (await client.get("/v1/items/item-1/similar")).json()["items"]
        # It knows seven items, the model that recommends forty.
        assert {each["id"] for each in similar} <= {f"item-{n}" for n in range(7)}


async def test_a_hundred_requests_from_five_clients_with_one_key_are_one_task(
    client: httpx.AsyncClient,
) -> None:
    body = {"idempotency_key": "once"}

    async def ask_over_and_over() -> list[httpx.Response]:
        return [await client.post(TRAIN, json=body) for _ in range(20)]

    of_clients = await asyncio.gather(*(ask_over_and_over() for _ in range(5)))
    answers = [answer for answers in of_clients for answer in answers]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.fixture
async def several(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with four models."""
    ensure_topics(settings)
    models = {name: ModelSettings() for name in ("shop-2", "one", "two", "three")}
    async with serve(msgspec.structs.replace(settings, models=models)) as client:
        yield client


async def test_a_model_that_is_queued_or_training_is_a_conflict_with_the_task(
    several: httpx.AsyncClient, tasks: TaskStore
) -> None:
    client = several
    task = (await client.post("/v1/models/shop-2/train")).json()
    running = await claimed(tasks)
    problem = check_problem(await client.post("/v1/models/shop-2/train"), 409)
    words = "The training is still in progress for the same model ID: shop-2"
    assert problem["detail"] == words
    assert (problem["task"]["id"], problem["task"]["status"]) == (task["id"], "RUNNING")
    assert "queue_position" not in problem["task"]
    assert running.task.id == task["id"]


async def test_sooner_than_settings_allow_is_told_when_to_come_again(
    settings: Settings, serve: Serve, tasks: TaskStore
) -> None:
    strict = msgspec.structs.replace(settings, retrain=RetrainSettings(min_interval="24h"))
    async with serve(strict) as client:
        await client.post(TRAIN)
        running = await claimed(tasks)
        done = msgspec.structs.replace(running.task, status="SUCCEEDED", updated_at=2e9)
        await tasks.finish(done, running.fence, trained=True)
        answer = await client.post(TRAIN)
        check_problem(answer, 429, "HEADRACE_RETRAIN_MIN_INTERVAL")
        assert answer.headers["retry-after"] == "86400"


async def test_a_deleted_model_is_a_conflict_and_its_training_is_cancelled(
    client: httpx.AsyncClient, tasks: TaskStore
) -> None:
    queued = (await client.post(TRAIN)).json()
    held = await tasks.create(TrainingRequest(), "b" * 32, now=NOW, waits=True)
    assert (await client.delete("/v1/models/default")).status_code == 204
    for task_id in (queued["id"], held.id):
        assert (await tasks.get(task_id)).status == "CANCELLED"
    check_problem(await client.post(TRAIN), 409, "deleted")
    assert (await client.put("/v1/models/default")).status_code == 200
    assert (await client.post(TRAIN)).status_code == 202


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"epochs": 0}, "epochs", "epochs: is 0; it must be a whole number from 1 to 1,000"),
        ({"learning_rate": 1}, "learning_rate", "is 1; it must be a number from 0.0001 to 0.01"),
        ({"algorithm": "svd"}, "algorithm", "'svd'; retrieval has transformer"),
        ({"kind": "cube"}, "kind", 'is "cube"; it must be one of retrieval, items, ranking'),
        ({"model_id": "other"}, "model_id", "the path says 'default'"),
        ({"schema": {"type": "click"}}, "schema", "part `data` of a form"),
        ({"params": {"width": "x"}}, "params", "it must be numbers by the names of training"),
        ({"nothing": 1}, "nothing", "is not a field"),
    ],
)
async def test_what_cannot_be_asked_for_is_named(
    client: httpx.AsyncClient, body: dict[str, Any], field: str, words: str
) -> None:
    problem = check_problem(await client.post(TRAIN, json=body), 422, words)
    assert [each["field"] for each in problem["errors"]] == [field]


async def test_a_file_is_kept_for_its_task_and_goes_with_it(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    form = {"schema": msgspec.json.encode(SCHEMA).decode(), "epochs": "3", "idempotency_key": "k"}
    answer = await client.post(TRAIN, data=form, files={"data": ("events.csv", CSV)})
    assert answer.status_code == 202, answer.text
    task = answer.json()
    [kept] = uploads(settings)
    assert kept.read_bytes() == CSV
    assert task["params"]["epochs"] == 3
    assert task["params"]["data"] == {
        "name": kept.name, "bytes": len(CSV), "sha256": hashlib.sha256(CSV).hexdigest(),
        "schema": SCHEMA,
    }  # fmt: skip
    # Sent again under its key, or while the model is busy, nothing more is kept.
    again = await client.post(TRAIN, data=form, files={"data": ("events.csv", CSV)})
    assert again.json()["id"] == task["id"]
    busy = await client.post(
        TRAIN, data={"request": '{"epochs": 2}'}, files={"data": ("e.parquet", b"PAR1")}
    )
    check_problem(busy, 409)
    assert uploads(settings) == [kept]
    cancelled = await client.delete(f"/v1/tasks/{task['id']}")
    assert cancelled.json()["status"] == "CANCELLED"
    assert uploads(settings) == []
    # So it does with its model.
    more = {**form, "idempotency_key": "k2"}
    answer = await client.post(TRAIN, data=more, files={"data": ("events.csv", CSV)})
    assert (answer.status_code, len(uploads(settings))) == (202, 1)
    assert (await client.delete("/v1/models/default")).status_code == 204
    assert uploads(settings) == []


async def test_a_file_stays_for_a_task_that_was_queued_though_redis_answered_late(
    client: httpx.AsyncClient, settings: Settings, tasks: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_late(self: TaskStore, task_id: str) -> None:
        raise RedisTimeout("Timeout reading from socket")

    form = {"idempotency_key": "k", "schema": msgspec.json.encode(SCHEMA).decode()}
    with monkeypatch.context() as late:
        # The script has queued the task; what it has queued is not read in time.
        late.setattr(TaskStore, "get", too_late)
        answer = await client.post(TRAIN, data=form, files={"data": ("events.csv", CSV)})
        check_problem(answer, 503)
    [task] = await tasks.newest()
    again = await client.post(TRAIN, data=form, files={"data": ("events.csv", CSV)})
    assert (again.status_code, again.json()["id"]) == (202, task.id)
    data = kept_file(task.params["data"])
    assert data is not None
    assert [path.name for path in uploads(settings)] == [data.name]
    with Uploads(settings).fetched(data) as path:
        assert path.read_bytes() == CSV


async def test_a_file_goes_where_a_trainer_on_another_machine_finds_it(
    settings: Settings, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(machine: str) -> Settings:
        versions = VersionSettings(cache=str(tmp_path / machine))
        return msgspec.structs.replace(settings, artifacts=f"s3://{BUCKET}/shop", versions=versions)

    with s3_server(monkeypatch):
        async with serve(on("server")) as client:
            form = {"schema": msgspec.json.encode(SCHEMA).decode()}
            answer = await client.post(TRAIN, data=form, files={"data": ("e.csv", CSV)})
            assert answer.status_code == 202, answer.text
            data = kept_file(answer.json()["params"]["data"])
            assert data is not None
            with Uploads(on("trainer")).fetched(data) as path:
                assert path.read_bytes() == CSV
            assert (await client.delete(answer.headers["location"])).status_code == 200
            with pytest.raises(DataUnavailable), Uploads(on("trainer")).fetched(data):
                pass


@pytest.mark.parametrize(
    ("fields", "files", "words"),
    [
        ({}, {"data": ("events", CSV)}, "nothing tells the format of 'events'"),
        ({}, {"data": ("../../x.csv", b"")}, "data: is empty"),
        ({"data": "u,i"}, {"other": ("e.csv", CSV)}, "other: is a file"),
        ({"data": "u,i", "epochs": "3"}, {"request": ("e", b"")}, "request: is a file"),
        ({"epochs": "0"}, {"data": ("e.csv", CSV)}, "epochs: is 0; it must be"),
        ({"from": '{"clicks": {"0": 5}}'}, {"data": ("e.csv", CSV)}, "from: is offsets of topics"),
        ({"to": '{"clicks": {"0": 5}}'}, {"data": ("e.csv", CSV)}, "to: is offsets of topics"),
        ({"global_data": "true"}, {"data": ("e.csv", CSV)}, "global_data: is true; events of a"),
        ({"epochs": "many"}, {"data": ("e.csv", CSV)}, 'epochs: is "many"; it must be'),
    ],
)
async def test_a_form_that_cannot_be_taken_leaves_no_file(
    client: httpx.AsyncClient,
    settings: Settings,
    fields: dict[str, str],
    files: dict[str, tuple[str, bytes]],
    words: str,
) -> None:
    check_problem(await client.post(TRAIN, data=fields, files=files), 422, words)
    assert uploads(settings) == []


async def test_a_form_that_is_none_is_refused(client: httpx.AsyncClient) -> None:
    kind = {"content-type": "multipart/form-data; boundary=x"}
    check_problem(await client.post(TRAIN, content=b"nonsense", headers=kind), 422, "form")
    kind = {"content-type": "multipart/form-data"}
    check_problem(await client.post(TRAIN, content=b"--x", headers=kind), 422, "form")


async def test_what_stands_beside_the_file_is_no_longer_and_no_deeper_than_a_body(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    file = {"data": ("events.csv", CSV)}
    half = "x" * (600 << 10)
    answer = await client.post(TRAIN, data={"reason": half, "params": half}, files=file)
    check_problem(answer, 413, "1,048,576 bytes")
    for name in ("request", "schema"):
        answer = await client.post(TRAIN, data={name: "[" * 100_000}, files=file)
        check_problem(answer, 422, "deeper than 16")
    assert uploads(settings) == []


async def test_a_file_may_be_as_long_as_settings_say(settings: Settings, serve: Serve) -> None:
    small = msgspec.structs.replace(settings, serving=ServingSettings(upload_bytes=1 << 20))
    async with serve(small) as client:
        files = {"data": ("events.csv", b"x" * (2 << 20))}
        check_problem(await client.post(TRAIN, files=files), 413, "2,097,152 bytes")
        files = {"data": ("events.csv", b"x" * (1 << 20) + b"x")}
        check_problem(await client.post(TRAIN, files=files), 413, "file is longer than 1,048,576")
        assert (await client.get("/v1/tasks")).json() == {"tasks": []}


async def test_tasks_are_chosen_by_kind_status_and_number(
    several: httpx.AsyncClient, tasks: TaskStore
) -> None:
    client = several
    for name in ("one", "two", "three"):
        await client.post(f"/v1/models/{name}/train")
    running = await claimed(tasks)

    async def found(query: str) -> list[str]:
        answer = await client.get(f"/v1/tasks?{query}")
        assert answer.status_code == 200, answer.text
        return [task["model_id"] for task in answer.json()["tasks"]]

    assert await found("status=RUNNING") == [running.task.model_id]
    assert await found("status=QUEUED&limit=1") == ["three"]
    assert await found("kind=retrieval") == ["three", "two", "one"]
    assert await found("kind=items") == []
    for query in ("status=DONE", "kind=x", "limit=0", "limit=1001", "limit=x"):
        check_problem(await client.get(f"/v1/tasks?{query}"), 422, query.partition("=")[0])


async def test_a_task_that_waits_for_its_model_is_seen_and_cancelled(
    client: httpx.AsyncClient, tasks: TaskStore
) -> None:
    assert (await client.post(TRAIN)).status_code == 202
    held = await tasks.create(TrainingRequest(), "b" * 32, now=NOW, waits=True)
    listed = (await client.get("/v1/tasks", params={"status": "QUEUED"})).json()["tasks"]
    assert {task["id"]: task["queue_position"] for task in listed}[held.id] == 2
    assert (await client.get(f"/v1/tasks/{held.id}")).json()["step"].startswith("waits: ")
    assert (await client.delete(f"/v1/tasks/{held.id}")).json()["status"] == "CANCELLED"


async def test_a_running_task_is_cancelled_and_its_log_is_read(
    client: httpx.AsyncClient, tasks: TaskStore
) -> None:
    task = (await client.post(TRAIN)).json()
    path = f"/v1/tasks/{task['id']}"
    assert (await client.get(f"{path}/log")).text == ""
    running = await claimed(tasks)
    await tasks.save_log(running.task, running.fence, b"epoch 1\n")
    log = await client.get(f"{path}/log")
    assert (log.text, log.headers["content-type"]) == ("epoch 1\n", "text/plain; charset=utf-8")
    answer = await client.delete(path)
    assert (answer.status_code, answer.json()["status"]) == (202, "RUNNING")
    assert await tasks.hold(running.task, running.fence) == "cancelled"
    done = msgspec.structs.replace(running.task, status="SUCCEEDED")
    await tasks.finish(done, running.fence)
    check_problem(await client.delete(path), 409, "has ended already: SUCCEEDED")
    check_problem(await client.get("/v1/tasks/" + "0" * 32 + "/log"), 404)


async def test_asking_needs_the_scope_train(settings: Settings, serve: Serve) -> None:
    ensure_topics(settings)
    async with serve(msgspec.structs.replace(settings, api_key="s3cret")) as client:
        assert (await client.post(TRAIN)).status_code == 401
        key = {"authorization": "Bearer s3cret"}
        answer = await client.post(TRAIN, headers=key)
        assert answer.status_code == 202
        assert answer.json()["requested_by"].startswith("key ")
