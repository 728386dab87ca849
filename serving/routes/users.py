"""Users: the session dictionary as it is held, merging two of them, and erasure."""

from __future__ import annotations

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from headrace.events import ItemId, UserId
from serving.bodies import json_response, read_json
from serving.callers import caller_of
from serving.paths import path_id
from serving.problems import RETRY_AFTER_S, Problem, wrong_field
from serving.queries import number
from serving.schemas.users import (
    HiddenItems,
    KnownUser,
    MergeAnswer,
    MergeRequest,
    UserInteractions,
    UserList,
)
from serving.services import services

MAX_USERS = 100
_USERS = 10
NOTHING_TO_MERGE = "Nothing is held of that user: it is not known, or has been merged already."


async def get_users(request: Request) -> Response:
    """Return some users whose sessions are held, those with the most interactions first.

    They are the first ones met, in no order, for trying things out: this is no list of all users.
    """
    most = number(request, "limit", 1, MAX_USERS) or _USERS
    found = await services(request).sessions.some_users(most)
    rows = sorted(found.items(), key=lambda row: (-row[1], row[0]))
    return json_response(UserList([KnownUser(*row) for row in rows]))


async def get_interactions(request: Request) -> Response:
    """Return the user's session dictionary; an unknown user's is empty."""
    user_id = path_id(request, "user_id", UserId)
    session = await services(request).sessions.read(user_id)
    return json_response(
        UserInteractions(user_id, session.interactions(), session.applied, session.marks)
    )


async def get_hidden(request: Request) -> Response:
    """Return the items that the user has hidden, and when."""
    user_id = path_id(request, "user_id", UserId)
    return json_response(HiddenItems(user_id, await services(request).sessions.hidden(user_id)))


async def put_hidden(request: Request) -> Response:
    """Hide an item for good: no list for this user holds it until it is unhidden."""
    server, user_id = services(request), path_id(request, "user_id", UserId)
    item_id = path_id(request, "item_id", ItemId)
    await server.sessions.hide(user_id, item_id, now=server.clock())
    return Response(status_code=204)


async def delete_hidden(request: Request) -> Response:
    """Unhide an item; 204 for one that is not hidden, too."""
    user_id, item_id = path_id(request, "user_id", UserId), path_id(request, "item_id", ItemId)
    await services(request).sessions.unhide(user_id, item_id)
    return Response(status_code=204)


async def post_merge(request: Request) -> Response:
    """Merge an anonymous user into this one, who has turned out to be the same person.

    The user takes over the anonymous one's interactions, with their times, and hidden items; the
    anonymous one is erased. 200 when Kafka has acknowledged both. Repeated, it counts once; what
    comes for the anonymous user afterwards is that user's, and can be merged again. On 503 the
    merge may be half done: ask for it again.
    """
    server, user_id = services(request), path_id(request, "user_id", UserId)
    asked = await read_json(request, MergeRequest)
    if asked.anonymous_id == user_id:
        reason = "is the user to be merged into; a user cannot be merged into itself"
        raise Problem(422, f"from: {reason}", [wrong_field("from", reason, user_id)])
    _check_owner(request, asked)
    merged = await server.merger.announce(user_id, asked.anonymous_id, asked.timeout_ms / 1000)
    if merged.erasure is not None:
        try:
            await server.eraser.carry_out(merged.erasure)
        except (RedisError, OSError) as exc:
            raise Problem(
                503,
                "The session store cannot be reached. Kafka knows of the merge, and workers carry "
                "it out when they reach the store; merge again to be sure.",
                retry_after_s=RETRY_AFTER_S,
            ) from exc
    return json_response(
        MergeAnswer(
            user_id,
            asked.anonymous_id,
            merged.interactions,
            merged.hidden,
            list(map(str, merged.tokens)),
            None if merged.erasure is not None else NOTHING_TO_MERGE,
        )
    )


def _check_owner(request: Request, asked: MergeRequest) -> None:
    """Raise `Problem` 403 when a user's token would take another user's session.

    A key may act for every user. Who holds a user's token shows to be the anonymous user, too, by
    that one's token.
    """
    if caller_of(request).user_id is None:
        return
    if asked.from_token is None:
        raise Problem(
            403, "from_token: with a user's token, the anonymous user's token is needed, too."
        )
    try:
        owner = services(request).key_ring.identify(asked.from_token)
    except Problem as exc:
        raise Problem(403, f"from_token: {exc.detail}") from exc
    if owner.user_id != asked.anonymous_id or "events" not in owner.scopes:
        raise Problem(
            403, "from_token: is not a token of the anonymous user with the scope `events`."
        )


async def delete_user(request: Request) -> Response:
    """Erase the user: the session now, and from the log all events up to now.

    Nothing brings the user back: workers, replays and trainings ignore the user's events from
    before the erasure, while later ones count. A user that is not known is erased all the same. On
    503 the erasure may be half done: ask for it again.
    """
    user_id = path_id(request, "user_id", UserId)
    eraser = services(request).eraser
    erasure = await eraser.announce(user_id)
    try:
        await eraser.carry_out(erasure)
    except (RedisError, OSError) as exc:
        raise Problem(
            503,
            "The session store cannot be reached. Kafka knows of the erasure, and workers carry it "
            "out when they reach the store; erase again to be sure.",
            retry_after_s=RETRY_AFTER_S,
        ) from exc
    return Response(status_code=204)
