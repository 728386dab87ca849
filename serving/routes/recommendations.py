"""Recommendations out: for a user or a session, items like an item, and what is trending."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import InvalidCursor, InvalidFilter
from headrace.events import ItemId, UserId
from headrace.impressions import ImpressionId
from headrace.popularity import STEP_S, Step
from headrace.tokens import Token
from models.retrieval.recommendations import Recommendations
from models.retrieval.retriever import Retriever
from serving.bodies import MAX_BULK, invalid_body, json_response, read_json
from serving.callers import act_for, caller_of
from serving.feed import EventStream
from serving.paths import path_id
from serving.problems import Problem, wrong_field
from serving.queries import category_of, number, one_of, share, yes_or_no
from serving.schemas.items import ItemPopularity
from serving.schemas.recommendations import (
    ItemList,
    Recommendation,
    RecommendationRequest,
    ServedList,
)
from serving.services import services
from serving.trending import category_filter, in_category

TRENDING_AWAY = "Trending items cannot be read now: the session store is away."
NOT_TRENDING = "No item of this category is trending."
NO_SUCH_CATEGORY = "No item of the catalogue has this category."
NOT_BOUGHT = "Nothing is known to be bought together with this item."
_MAX_K = 500
_MAX_TOKENS = MAX_BULK
"""A call's events are as many at the most."""
_DEFAULT_K = 10


async def post_recommendations(request: Request) -> Response:
    """Recommend items for a user, or for the session that the request holds."""
    asked = await read_json(request, RecommendationRequest)
    if (asked.user_id is None) == (asked.user_interactions is None):
        raise Problem(
            422,
            "Send either user_id or user_interactions.",
            [{"field": "user_id", "reason": "exactly one of user_id and user_interactions"}],
        )
    act_for(request, asked.user_id)
    if asked.user_id is None and asked.after != []:
        reason = "only a user's session can have seen events: send user_id"
        raise Problem(422, f"after: {reason}", [wrong_field("after", reason, None)])
    missing = await _unseen(request, asked)
    try:
        made = await services(request).recommender.answer(asked)
    except (InvalidCursor, InvalidFilter) as error:
        raise invalid_body(await request.body(), error) from error
    answer = made.answer
    services(request).impressions.note(asked, answer, made.session)
    if missing:
        raise Problem(
            409,
            f"The session has not seen {', '.join(missing[:3])}{' and more' * (len(missing) > 3)} "
            f"within {asked.timeout_ms} ms; `answer` is from the session as it is. Ask again.",
            more={"code": "stale", "missing": missing, "answer": answer},
        )
    return json_response(answer)


async def _unseen(request: Request, asked: RecommendationRequest) -> list[str]:
    """Wait for the events that the request names; return the tokens of those not seen in time."""
    texts = [asked.after] if isinstance(asked.after, str) else asked.after
    if asked.user_id is None or not texts:
        return []
    if len(texts) > _MAX_TOKENS:
        reason = f"Expected at most {_MAX_TOKENS:,} tokens"
        raise Problem(
            422, f"after: {reason}; there are {len(texts):,}", [wrong_field("after", reason, None)]
        )
    server = services(request)
    tokens = [Token.parse(each, server.topics.kinds) for each in dict.fromkeys(texts)]
    # While it waits it is no work for this server.
    with server.admission.aside(request.scope):
        unseen = await server.freshness.unseen(asked.user_id, tokens, asked.timeout_ms / 1000)
    return [str(token) for token in unseen]


async def get_recommendation(request: Request) -> Response:
    """Return a list that was served: what was asked for, from which version and session it came.

    It can be found a moment after the answer, on every server, and for as long as
    `HEADRACE_IMPRESSIONS_TTL_S` says while it is among its user's newest. A user's token finds that
    user's own.
    """
    impression_id = path_id(request, "recommendation_id", ImpressionId, "32 hexadecimal digits")
    impression = await services(request).served.find(impression_id)
    if impression is None:
        raise Problem(
            404,
            f"No list with the id {impression_id} is known: it was never served, was served just "
            "now, or too long ago.",
        )
    caller_of(request).check_user(impression.user_id)
    return json_response(ServedList.of(impression))


async def get_stream(request: Request) -> Response:
    """Keep a stream of recommendations open: server-sent events named `recommendations`.

    Each is a whole list, the first at once and a new one whenever the user's session changes,
    another version is live, or an item of the list is deleted. With `Last-Event-ID` the first is
    left out when it says what the client has already. The stream ends with an event named `end`,
    whose `reason` says why, once its key or token has expired or was revoked.
    """
    user_id, feed = path_id(request, "user_id", UserId), services(request).feed
    key_ring, caller = services(request).key_ring, caller_of(request)
    category = category_of(request)
    asked = RecommendationRequest(
        user_id=user_id,
        k=_k(request),
        recommend_seen=yes_or_no(request, "recommend_seen"),
        filter=None if category is None else category_filter(category),
        diversity=share(request, "diversity"),
        explain=yes_or_no(request, "explain"),
    )
    stability = number(request, "stability", 0, _MAX_K)
    feed.check_room()
    return EventStream(
        feed.stream(
            asked,
            stability,
            request.headers.get("last-event-id", ""),
            lambda: key_ring.refusal(caller, "recommend"),
        )
    )


async def get_similar(request: Request) -> Response:
    """Return the items most like one: by item-to-item towers, where those know it."""
    similar = services(request).similar
    if similar.retriever is not None:
        await similar.hear()
    towers = similar.retriever

    def find(model: Retriever, item_id: str, k: int) -> Recommendations | None:
        found = None if towers is None else towers.similar(item_id, k)
        return model.similar(item_id, k) if found is None else found

    return await _of_item(request, find)


async def get_bought_together(request: Request) -> Response:
    """Return the items that are bought together with one.

    A score is the share of the item's baskets that hold the other one, too.
    """
    return await _of_item(
        request, lambda model, item_id, k: model.bought_together(item_id, k), NOT_BOUGHT
    )


async def get_popularity(request: Request) -> Response:
    """Return how often an item was met, by hour or by day of the events' own time.

    The newest 48 hours, or 32 days, up to the newest event of any item; told every ten seconds.
    """
    item_id = path_id(request, "item_id", ItemId)
    step = cast("Step", one_of(request, "step", tuple(STEP_S)) or "day")
    found = await services(request).popularity.read(item_id, step)
    return json_response(ItemPopularity(item_id, STEP_S[step], found.at, found.events))


async def get_trending(request: Request) -> Response:
    """Return the items with the largest decayed counts, each with its share of all of them.

    With `category` those of this category, as the catalogue has them; the shares stay the same. Of
    a category that no item has the list is empty, and `message` says so.
    """
    k, category = _k(request), category_of(request)
    live, trending = services(request).live, services(request).trending
    await live.hear()
    catalogued = live.retriever or live.shelf
    rows = (
        await trending.items()
        if category is None
        else await trending.of_category(category, catalogued)
    )
    there = (Recommendation(at, share) for at, share in rows if at not in live.deleted)
    items = list(islice(there, k))
    if items:
        return json_response(ItemList(items))
    if trending.is_away:
        return json_response(ItemList([], TRENDING_AWAY))
    if category is None:
        return json_response(ItemList([], "There have been no events yet."))
    some = catalogued.has(in_category(category))
    return json_response(ItemList([], NOT_TRENDING if some else NO_SUCH_CATEGORY))


async def _of_item(
    request: Request,
    find: Callable[[Retriever, str, int], Recommendations | None],
    nothing: str | None = None,
) -> Response:
    """Answer with items found for one; `nothing`: the message when there are none."""
    item_id, k = path_id(request, "item_id", ItemId), _k(request)
    live = services(request).live
    await live.hear()
    if item_id in live.deleted:
        raise Problem(404, f"The item with the id {item_id!r} was deleted.")
    if live.retriever is None:
        return json_response(ItemList([], "There is no model yet."))
    found = find(live.retriever, item_id, k)
    if found is None:
        raise Problem(404, f"The model knows no item with the id {item_id!r}.")
    rows = list(map(Recommendation, found.item_ids, found.scores, found.cold))
    return json_response(ItemList(rows, None if rows else nothing))


def _k(request: Request) -> int:
    return number(request, "k", 1, _MAX_K) or _DEFAULT_K
