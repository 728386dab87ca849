"""Models, their versions, and the trainings asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import InvalidSetting
from headrace.producer import Outgoing
from headrace.settings import training_settings
from headrace.tasks import RetrainRequest
from headrace.topics import RETRAIN
from headrace.versions import describe, read_manifests, version_folder
from models.retrieval.artifact import load_artifact
from serving.bodies import json_response, read_json
from serving.paths import model_id_of
from serving.problems import Problem, wrong_field
from serving.schemas import Model, ModelList, TrainRequest, VersionList
from serving.services import Services, services


async def get_models(request: Request) -> Response:
    """Return the models, each with its live version."""
    server = services(request)
    ids = {*server.models, *await server.versions.models()}
    models = [
        Model(model_id, await server.versions.live(model_id), _topics(server, model_id))
        for model_id in sorted(ids)
    ]
    return json_response(ModelList(models))


def _topics(server: Services, model_id: str) -> tuple[str, ...]:
    """Return the topics of a model's events; none of one that is served no more."""
    return server.models[model_id].topics.events if model_id in server.models else ()


async def get_versions(request: Request) -> Response:
    """Return the model's versions, newest first."""
    server = services(request)
    model_id = model_id_of(request)
    live = await server.versions.live(model_id)
    artifacts = Path(server.settings.artifacts)
    manifests = await asyncio.to_thread(read_manifests, artifacts, model_id)
    return json_response(VersionList([dict(describe(each, live)) for each in manifests]))


async def activate_version(request: Request) -> Response:
    """Put a version live, if it is whole."""
    server = services(request)
    return await _activate(
        server, model_id_of(request), request.path_params["version"], "activated"
    )


async def roll_back(request: Request) -> Response:
    """Put the version live again that was live before this one."""
    server = services(request)
    model_id = model_id_of(request)
    history = await server.versions.history(model_id)
    before = next((each for each in history if each.version != history[0].version), None)
    if before is None:
        raise Problem(409, f"Model {model_id} has had no other version live to go back to.")
    return await _activate(server, model_id, before.version, "rolled back")


async def train(request: Request) -> Response:
    """Ask for a training; 202 with the task that stands for it."""
    model_id = model_id_of(request)
    server = services(request).of_model(model_id)
    body = await read_json(request, TrainRequest)
    try:
        training_settings(server.settings, body.params)
    except InvalidSetting as exc:
        raise Problem(422, str(exc), [wrong_field("params", str(exc), None)]) from exc
    asked = RetrainRequest(
        idempotency_key=body.idempotency_key or server.new_id(),
        model_id=model_id,
        reason=body.reason,
        requested_by="http",
        params=body.params,
    )
    topic = server.topics.name(RETRAIN)
    await server.producer.send([Outgoing(topic, model_id.encode(), msgspec.json.encode(asked))])
    # The trainer makes the same task from the message, whichever of the two comes first.
    task = await server.tasks.create(asked, server.new_id(), now=server.clock())
    return json_response(task, 202, {"Location": f"/v1/tasks/{task.id}"})


async def _activate(server: Services, model_id: str, version: str, reason: str) -> Response:
    folder = version_folder(Path(server.settings.artifacts), model_id, version)
    if not await asyncio.to_thread(folder.is_dir):
        raise Problem(404, f"Model {model_id} has no version {version}.")
    await asyncio.to_thread(load_artifact, folder)
    live = await server.versions.activate(model_id, version, now=server.clock(), reason=reason)
    return json_response(live)
