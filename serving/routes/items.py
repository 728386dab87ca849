"""The catalogue over HTTP: changes go through Kafka like everyone else's."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.catalog import Item, parse_item
from headrace.errors import InvalidEvent
from headrace.events import ItemId
from headrace.producer import Outgoing
from headrace.topics import ITEMS
from serving.bodies import json_response, read_bulk, read_json, refuse_invalid
from serving.paths import path_id
from serving.problems import Problem
from serving.schemas import ItemBody, ItemsAccepted
from serving.services import services


async def get_item(request: Request) -> Response:
    """Return an item of the catalogue."""
    item_id = _item_id(request)
    item = await services(request).catalog.get(item_id)
    if item is None:
        raise Problem(404, f"The catalogue has no item with the id {item_id!r}.")
    return json_response(item)


async def put_item(request: Request) -> Response:
    """Add or replace an item; 202 when Kafka has acknowledged it."""
    body = await read_json(request, ItemBody)
    item = Item(item_id=_item_id(request), **msgspec.structs.asdict(body))
    return await _send(request, [(item.item_id, msgspec.json.encode(item))])


async def delete_item(request: Request) -> Response:
    """Delete an item; 202 when Kafka has acknowledged it."""
    return await _send(request, [(_item_id(request), None)])


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
    refuse_invalid(wrong, len(rows), "items")
    return await _send(request, [(item.item_id, msgspec.json.encode(item)) for item in items])


async def _send(request: Request, changes: list[tuple[str, bytes | None]]) -> Response:
    server = services(request)
    topic = server.topics.name(ITEMS)
    await server.producer.send([Outgoing(topic, key.encode(), value) for key, value in changes])
    return json_response(ItemsAccepted(len(changes)), 202)


def _item_id(request: Request) -> str:
    return path_id(request, "item_id", ItemId)
