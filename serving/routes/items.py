"""The catalogue over HTTP: changes go through Kafka like everyone's, and are applied at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from headrace.catalog import Item, parse_item
from headrace.errors import InvalidEvent
from headrace.events import MAX_BYTES, ItemId
from serving.bodies import json_response, read_bulk, read_json, refuse_invalid
from serving.paths import check_id, path_id
from serving.problems import RETRY_AFTER_S, Problem, wrong_field
from serving.queries import category_of, number, words
from serving.schemas.items import FoundItems, ItemBody, ItemsAccepted
from serving.services import services

MAX_FOUND, MAX_OFFSET, MAX_QUERY = 500, 999_999, 200
MAX_IDS = 100
"""In an address, which may be 64 KiB long."""
_FOUND = 50

logger = logging.getLogger(__name__)


async def get_item(request: Request) -> Response:
    """Return an item of the catalogue."""
    item_id = _item_id(request)
    item = await services(request).catalog.get(item_id)
    if item is None:
        raise Problem(404, f"The catalogue has no item with the id {item_id!r}.")
    return json_response(item)


async def get_items(request: Request) -> Response:
    """Search the catalogue.

    Every word of the `query` occurs in an item's id, title or categories, whatever the case. First
    comes the item whose id it is, then those whose title begins with it, those with a word that
    does, and others, each by title. With `id`, which may come several times, those items instead,
    in that order, without unknown ones.
    """
    server = services(request)
    limit = number(request, "limit", 1, MAX_FOUND) or _FOUND
    offset = number(request, "offset", 0, MAX_OFFSET) or 0
    item_ids = _ids(request)
    if item_ids:
        items = await server.catalog.get_many(item_ids)
        return json_response(FoundItems(len(items), 0, items, {}))
    found = await server.item_search.find(
        words(request, "query", MAX_QUERY) or "",
        category_of(request),
        limit=limit,
        offset=offset,
    )
    items = await server.catalog.get_many(found.item_ids)
    return json_response(FoundItems(found.count, offset, items, found.categories))


async def put_item(request: Request) -> Response:
    """Add or replace an item; 202 when Kafka has acknowledged it.

    Every server recommends it from its next answer on.
    """
    body = await read_json(request, ItemBody)
    item = Item(item_id=_item_id(request), **msgspec.structs.asdict(body))
    if len(msgspec.json.encode(item)) > MAX_BYTES:
        raise Problem(413, f"The item is longer than {MAX_BYTES:,} bytes.")
    return await _put(request, [item])


async def delete_item(request: Request) -> Response:
    """Delete an item; 202 when Kafka has acknowledged it and no server serves it any more.

    503 when one of the two cannot be had: delete it again.
    """
    item_id = _item_id(request)
    writer = services(request).catalog_writer
    changes = await writer.send([(item_id, None)])
    try:
        await writer.apply(changes)
    except (RedisError, OSError) as exc:
        raise Problem(
            503,
            f"Kafka has the deletion of {item_id!r}, but the catalogue in Redis cannot be reached; "
            "until a worker has applied it the item may be served. Delete it again.",
            retry_after_s=RETRY_AFTER_S,
        ) from exc
    return json_response(ItemsAccepted(1), 202)


async def post_items(request: Request) -> Response:
    """Add or replace items: one, an array, or NDJSON."""
    rows = await read_bulk(request)
    items: list[Item] = []
    wrong: list[tuple[int, InvalidEvent]] = []
    for index, row in enumerate(rows):
        try:
            items.append(parse_item(row))
        except InvalidEvent as error:
            wrong.append((index, error))
    refuse_invalid(wrong, rows, "items")
    return await _put(request, items)


async def _put(request: Request, items: Sequence[Item]) -> Response:
    writer = services(request).catalog_writer
    changes = await writer.send([(item.item_id, item) for item in items])
    try:
        await writer.apply(changes)
    except (RedisError, OSError) as exc:
        logger.warning("items in Kafka wait for a worker to apply them: %r", exc)
    return json_response(ItemsAccepted(len(changes)), 202)


def _ids(request: Request) -> list[str]:
    """Return the ids of the query. Raises `Problem` 422."""
    asked = request.query_params.getlist("id")
    if len(asked) > MAX_IDS:
        reason = f"Expected at most {MAX_IDS} ids"
        raise Problem(
            422, f"id: {reason}; there are {len(asked):,}", [wrong_field("id", reason, None)]
        )
    for item_id in asked:
        check_id(item_id, "id", ItemId)
    return asked


def _item_id(request: Request) -> str:
    return path_id(request, "item_id", ItemId)
