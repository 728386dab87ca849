"""Recommendations out: for a user or a session, items like an item, and what is trending."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from headrace.events import ItemId
from models.retrieval.retriever import Recommendations, Retriever
from serving.bodies import json_response, read_json
from serving.callers import act_for
from serving.paths import path_id
from serving.problems import Problem, wrong_field
from serving.schemas import ItemList, Recommendation, RecommendationRequest
from serving.services import services
from serving.values import cut

NOT_BOUGHT = "Nothing is known to be bought together with this item."
_MAX_K = 500


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
    return json_response(await services(request).recommender.answer(asked))


async def get_similar(request: Request) -> Response:
    """Return the items most like one."""
    return await _of_item(request, lambda model, item_id, k: model.similar(item_id, k))


async def get_bought_together(request: Request) -> Response:
    """Return the items that are bought together with one.

    A score is the share of the item's baskets that hold the other one, too.
    """
    return await _of_item(
        request, lambda model, item_id, k: model.bought_together(item_id, k), NOT_BOUGHT
    )


async def get_trending(request: Request) -> Response:
    """Return the items with the largest decayed counts, each with its share of all of them."""
    k, live = _k(request), services(request).live
    await live.hear()
    rows = await services(request).trending.items()
    items = [Recommendation(at, share) for at, share in rows if at not in live.deleted][:k]
    return json_response(ItemList(items, None if items else "There have been no events yet."))


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
    raw = request.query_params.get("k", "10")
    if not raw.isascii() or not raw.isdigit() or len(raw) > 6 or not 1 <= int(raw) <= _MAX_K:
        reason = f"Expected a whole number from 1 to {_MAX_K}"
        value = cut(raw)
        raise Problem(422, f"k: {reason}; it is {value}", [wrong_field("k", reason, value)])
    return int(raw)
