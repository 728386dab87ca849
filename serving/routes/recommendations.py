"""Recommendations out: for a user or a session, items like an item, and what is trending."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.events import ItemId
from serving.bodies import json_response, read_json
from serving.paths import path_id
from serving.problems import Problem
from serving.schemas import ItemList, Recommendation, RecommendationRequest
from serving.services import services

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
    return json_response(await services(request).recommender.answer(asked))


async def get_similar(request: Request) -> Response:
    """Return the items most like one."""
    retriever = services(request).live.retriever
    item_id = path_id(request, "item_id", ItemId)
    if retriever is None:
        return json_response(ItemList([], "There is no model yet."))
    similar = retriever.similar(item_id, _k(request))
    if similar is None:
        raise Problem(404, f"The model knows no item with the id {item_id!r}.")
    rows = map(Recommendation, similar.item_ids, similar.scores, similar.cold)
    return json_response(ItemList(list(rows)))


async def get_trending(request: Request) -> Response:
    """Return the items with the largest decayed counts, each with its share of all of them."""
    rows = (await services(request).trending.items())[: _k(request)]
    message = None if rows else "There have been no events yet."
    items = [Recommendation(item_id, share) for item_id, share in rows]
    return json_response(ItemList(items, message))


def _k(request: Request) -> int:
    raw = request.query_params.get("k", "10")
    if not raw.isascii() or not raw.isdigit() or len(raw) > 6 or not 1 <= int(raw) <= _MAX_K:
        reason = f"{raw[:32]!r} is not a whole number from 1 to {_MAX_K}"
        raise Problem(422, f"k: {reason}", [{"field": "k", "reason": reason}])
    return int(raw)
