"""Models and their versions."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from headrace.settings import ModelId
from headrace.versions import ROLLED_BACK, describe, read_manifests, version_folder
from models.retrieval.versions import check_version
from serving.bodies import json_response
from serving.paths import path_id
from serving.problems import Problem
from serving.schemas import Model, ModelList, VersionList
from serving.services import Services, services


async def get_models(request: Request) -> Response:
    """Return the models, each with its live version."""
    server = services(request)
    ids = {server.settings.model_id, *await server.versions.models()}
    models = [Model(model_id, await server.versions.live(model_id)) for model_id in sorted(ids)]
    return json_response(ModelList(models))


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
    return await _activate(server, model_id, before.version, ROLLED_BACK)


async def _activate(server: Services, model_id: str, version: str, reason: str) -> Response:
    folder = version_folder(Path(server.settings.artifacts), model_id, version)
    if not await asyncio.to_thread(folder.is_dir):
        raise Problem(404, f"Model {model_id} has no version {version}.")
    await asyncio.to_thread(check_version, folder)
    live = await server.versions.activate(model_id, version, now=server.clock(), reason=reason)
    return json_response(live)


def model_id_of(request: Request) -> str:
    """Return the model id of the path. Raises `Problem` 422 for what is none."""
    reason = "lowercase letters, digits and hyphens, no hyphen first or last, at most 63"
    return path_id(request, "model_id", ModelId, reason)
