"""Replays: asked for, watched, ended, gone on with, and promoted. The trainer runs them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import HeadraceError
from headrace.replaying.queue import OPEN, ReplayRefused, ReplayTask
from headrace.replaying.shadow import shadow_settings
from headrace.replaying.window import BEGINNING, NOW
from headrace.settings import Settings
from headrace.topics import Topics
from serving.bodies import json_response, read_json
from serving.callers import caller_of
from serving.paths import path_id
from serving.problems import Problem, wrong_field
from serving.schemas.replays import ReplayId, ReplayList, ReplayRequest
from serving.services import services
from serving.values import cut


async def post_replay(request: Request) -> Response:
    """Ask for a replay of the log into a shadow or the live state; 202 with it.

    409 while one into the same state has not ended.
    """
    server, asked = services(request), await read_json(request, ReplayRequest)
    settings = server.of_model(asked.model_id or server.settings.model_id).settings
    _check_topics(asked.topics, Topics(settings))
    begin, end = _moment("from", asked.begin, BEGINNING), _moment("to", asked.end, NOW)
    if begin is not None and end is not None and end <= begin:
        raise _wrong("to", "Expected a time after `from`", asked.end)
    _check_namespace(asked.into, settings)
    now = server.clock()
    task = ReplayTask(
        id=server.new_id(),
        model_id=settings.model_id,
        into=asked.into,
        topics=asked.topics,
        # With its offset: the trainer's own may be another.
        begin=asked.begin if begin is None else begin.isoformat(),
        end=asked.end if end is None else end.isoformat(),
        rate=asked.rate,
        dry_run=asked.dry_run,
        anew=asked.anew,
        created_at=now,
        updated_at=now,
        requested_by=caller_of(request).key_id,
    )
    return _accepted(await server.replays.add(task))


async def get_replays(request: Request) -> Response:
    """Return the newest replays and promotions, newest first."""
    return json_response(ReplayList(await services(request).replays.newest()))


async def get_replay(request: Request) -> Response:
    """Return one replay: how far it is, and what became of the records."""
    return json_response(await services(request).replays.get(_replay_id(request)))


async def delete_replay(request: Request) -> Response:
    """Cancel a replay; 202 while what runs it is still ending it. `resume` goes on with it."""
    server = services(request)
    task = await server.replays.cancel(_replay_id(request), now=server.clock())
    return json_response(task, 202 if task.status in OPEN else 200)


async def post_resume(request: Request) -> Response:
    """Go on with a replay that was cancelled or has failed.

    Into a shadow it goes on where it was left; into the live state it begins again, and what was
    applied changes nothing.
    """
    server = services(request)
    return _accepted(await server.replays.resume(_replay_id(request), now=server.clock()))


async def post_promote(request: Request) -> Response:
    """Make the shadow of a replay the live state; 202 with the promotion, which has an id itself.

    Workers wait for it, and go on where the replay ends. It cannot be cancelled once it runs.
    """
    server = services(request)
    source = await server.replays.get(_replay_id(request))
    if source.action != "replay" or source.into is None or source.dry_run:
        raise ReplayRefused(
            f"Replay {source.id} has filled no shadow; there is nothing to promote."
        )
    if source.status != "SUCCEEDED":
        raise ReplayRefused(f"Replay {source.id} is {source.status}; only a whole one is promoted.")
    now = server.clock()
    task = ReplayTask(
        id=server.new_id(),
        action="promote",
        model_id=source.model_id,
        into=source.into,
        created_at=now,
        updated_at=now,
        requested_by=caller_of(request).key_id,
    )
    return _accepted(await server.replays.add(task))


def _accepted(task: ReplayTask) -> Response:
    response = json_response(task, 202)
    response.headers["Location"] = f"/v1/replays/{task.id}"
    return response


def _check_topics(topics: Sequence[str] | None, known: Topics) -> None:
    for topic in topics or ():
        if topic not in known.kinds:
            raise _wrong("topics", f"Expected some of {', '.join(known.kinds)}", topic)


def _check_namespace(namespace: str | None, settings: Settings) -> None:
    try:
        if namespace is not None:
            shadow_settings(settings, namespace)
    except HeadraceError as exc:
        raise _wrong("into", str(exc).rstrip("."), namespace or "") from exc


def _moment(field: str, given: str, edge: str) -> datetime | None:
    """Return the time, None for the edge of the log. Raises `Problem` 422."""
    if given == edge:
        return None
    try:
        # Python 3.10 does not know the Z of UTC.
        moment = datetime.fromisoformat(given.replace("Z", "+00:00"))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        moment.timestamp()
    except (ValueError, OverflowError) as exc:
        reason = f"Expected {edge} or a time, 2026-11-01T00:00Z"
        raise _wrong(field, reason, given) from exc
    return moment


def _wrong(field: str, reason: str, value: str) -> Problem:
    shown = cut(value)
    return Problem(422, f"{field}: {reason}; it is {shown}", [wrong_field(field, reason, shown)])


def _replay_id(request: Request) -> str:
    return path_id(request, "replay_id", ReplayId, "32 hexadecimal digits")
