"""Models and their versions."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response

from headrace.catalog import Item
from headrace.errors import TaskEnded, VersionNotFound
from headrace.evaluation import NOT_THE_MODELS
from headrace.task_files import remove_files
from headrace.versions import ACTIVATED, PINNED, ROLLED_BACK, describe
from serving.bodies import json_response
from serving.paths import model_id_of
from serving.problems import Problem
from serving.queries import number, version_of
from serving.schemas.items import ItemMap
from serving.schemas.models import Evaluation, Model, ModelList, VersionList
from serving.schemas.recommendations import ModelInfo
from serving.services import Services, services

MAX_MAP, _MAP = 10_000, 2_000
"""Items."""


async def get_models(request: Request) -> Response:
    """Return the models, each with its live version."""
    server = services(request)
    ids = sorted({*server.models, *await server.versions.models()})
    return json_response(ModelList([await _model(server, model_id) for model_id in ids]))


async def get_versions(request: Request) -> Response:
    """Return the model's versions, newest first: metrics, data, and what the gate said."""
    server = services(request)
    model_id = model_id_of(request)
    state = await server.versions.state(model_id)
    if state.deleted:
        raise Problem(404, f"Model {model_id} was deleted; PUT /v1/models/{model_id} creates it.")
    manifests = await asyncio.to_thread(server.loader.store.manifests, model_id)
    found = [each for each in manifests if each.version not in state.gone]
    await server.evaluation.refresh()
    rows = [
        {
            **describe(each, state),
            "share": server.live.experiment.share_of(each.version),
            "evaluation": _evaluation(server, each.version),
        }
        for each in found
    ]
    return json_response(VersionList(rows, _evaluation(server, NOT_THE_MODELS)))


def _evaluation(server: Services, label: str) -> Evaluation | None:
    """Return how lists of this label fared, None where nothing came after any."""
    found, score = server.evaluation, server.evaluation.scores.get(label)
    if score is None:
        return None
    return Evaluation(found.k, score.events, score.hit_rate, score.ndcg, found.window_s)


async def get_map(request: Request) -> Response:
    """Return where the items of the live version lie, in two dimensions: alike is near.

    The most popular of late first. The map is made when a version is written; 404 where there is
    none, as for one that was written before there were maps.
    """
    server, model_id = services(request), model_id_of(request)
    limit = number(request, "limit", 1, MAX_MAP) or _MAP
    live = await server.versions.live(model_id)
    if live is None:
        raise Problem(404, f"Model {model_id} has no live version.")
    found = await asyncio.to_thread(server.loader.read_map, model_id, live.version)
    if found is None:
        raise Problem(404, f"Version {live.version} has no map; train another one.")
    of_model = server.models.get(model_id)
    if of_model is not None:
        await of_model.live.hear()
    deleted = () if of_model is None else of_model.live.deleted
    there = [at for at, item_id in enumerate(found.item_ids) if item_id not in deleted][:limit]
    ids = [found.item_ids[at] for at in there]
    items = {item.item_id: item for item in await server.catalog.get_many(ids)}
    shown = [items.get(item_id) or Item(item_id=item_id) for item_id in ids]
    x, y = found.points[there].T.round(5).tolist()
    answer = ItemMap(
        model=ModelInfo(model_id, live.version),
        explained=found.explained,
        count=len(found.item_ids),
        ids=ids,
        titles=[item.title for item in shown],
        categories=[item.categories[0] if item.categories else None for item in shown],
        x=x,
        y=y,
    )
    return json_response(answer)


async def activate_version(request: Request) -> Response:
    """Put a version live, if it is whole. A pin moves along."""
    server = services(request)
    model_id, version = model_id_of(request), request.path_params["version"]
    await _check(server, model_id, version)
    live = await server.versions.activate(model_id, version, now=server.clock(), reason=ACTIVATED)
    return json_response(live)


async def roll_back(request: Request) -> Response:
    """Put the version live again that was live before this one.

    With `to`, only if that is the one: somebody else may have put another one live meanwhile.
    """
    server = services(request)
    model_id, meant = model_id_of(request), version_of(request, "to")
    state = await server.versions.state(model_id)
    if state.live is None or state.before is None:
        raise Problem(409, f"Model {model_id} has had no other version live to go back to.")
    if meant not in (None, state.before):
        raise Problem(409, f"By now a rollback leads to {state.before}, not to {meant}.")
    # Quickly: it was served before, and servers ask its probes when they take it up. One that is
    # loaded here was checked then.
    here = server.followed.get(model_id)
    if here is None or not here.is_loaded(state.before):
        await asyncio.to_thread(server.loader.check_files, model_id, state.before)
    live = await server.versions.activate(
        model_id,
        state.before,
        now=server.clock(),
        reason=ROLLED_BACK,
        # Of two who roll back at once the second one would put it forth again.
        expected=state.live.version,
    )
    return json_response(live)


async def pin_version(request: Request) -> Response:
    """Put a version live, if it is not, and let no training put another one in its place."""
    server = services(request)
    model_id, version = model_id_of(request), request.path_params["version"]
    await _check(server, model_id, version)
    await server.versions.pin(model_id, version, now=server.clock(), reason=PINNED)
    return json_response(await _model(server, model_id))


async def unpin_model(request: Request) -> Response:
    """Let new versions go live by themselves again."""
    server = services(request)
    await server.versions.unpin(model_id_of(request), now=server.clock(), reason="unpinned")
    return Response(status_code=204)


async def delete_version(request: Request) -> Response:
    """Delete a version that is not live.

    It cannot go live from the answer on; the trainer deletes its files within moments.
    """
    server = services(request)
    model_id, version = model_id_of(request), request.path_params["version"]
    if await asyncio.to_thread(server.loader.store.manifest, model_id, version) is None:
        raise VersionNotFound(f"Model {model_id} has no version {version}.")
    await server.versions.delete(model_id, version, now=server.clock(), reason="deleted")
    return Response(status_code=204)


async def delete_model(request: Request) -> Response:
    """Delete a model with all its versions, the live one too; it is not trained any more.

    Servers of it show trending items from then on, until `PUT` creates the model again.
    """
    server = services(request)
    model_id = model_id_of(request)
    # First: what is asked for meanwhile is refused, and what it trains goes nowhere.
    await server.tasks.refuse_model(model_id)
    for task in await server.tasks.open_of_model(model_id):
        with suppress(TaskEnded):
            cancelled = await server.tasks.cancel(task.id, now=server.clock())
            if cancelled.status == "CANCELLED":
                await asyncio.to_thread(remove_files, server.settings, cancelled)
    names = await asyncio.to_thread(server.loader.store.versions, model_id)
    await server.versions.delete_model(model_id, names, now=server.clock(), reason="deleted")
    return Response(status_code=204)


async def put_model(request: Request) -> Response:
    """Create a model, or let one that was deleted be trained again; its versions stay deleted."""
    server = services(request)
    model_id = model_id_of(request)
    await server.versions.create_model(model_id, now=server.clock(), reason="created")
    await server.tasks.admit_model(model_id)
    return json_response(await _model(server, model_id))


async def _model(server: Services, model_id: str) -> Model:
    state = await server.versions.state(model_id)
    # None of a model that is served no more.
    topics = server.models[model_id].topics.events if model_id in server.models else ()
    return Model(model_id, state.live, state.pinned, state.before, state.deleted, topics)


async def _check(server: Services, model_id: str, version: str) -> None:
    """Raise what `VersionLoader.check` does of a version that no server would take up."""
    await asyncio.to_thread(server.loader.check, model_id, version)
