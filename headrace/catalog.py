"""The catalogue: what the items are. Kafka's `items` topic brings it, Redis keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from headrace.errors import InvalidItem
from headrace.events import MAX_BYTES, Context, ItemId, decode
from headrace.settings import Settings
from headrace.store import load_script, text

ShortText = Annotated[str, Meta(min_length=1, max_length=128)]


class Item(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An item of the catalogue. What it holds beside its id are the candidate tower's features."""

    item_id: ItemId
    title: Annotated[str, Meta(max_length=1_024)] | None = None
    categories: Annotated[tuple[ShortText, ...], Meta(max_length=64)] = ()
    price: Annotated[float, Meta(ge=0)] | None = None
    attributes: Context = {}
    """Anything else, flat."""


_decoder = msgspec.json.Decoder(Item)


def parse_item(raw: bytes) -> Item:
    """Read an item from JSON. Raises `InvalidItem` for anything that is not an item."""
    if len(raw) > MAX_BYTES:
        raise InvalidItem("", f"the record is {len(raw):,} bytes long; at most {MAX_BYTES:,}")
    item: Item = decode(_decoder, raw, InvalidItem, own="attributes")
    return item


class ItemChange(Struct, frozen=True):
    """A message of the `items` topic, and where it stands. `item` None: the item is deleted."""

    item_id: str
    item: Item | None
    topic_id: str
    partition: int
    offset: int


class CatalogStore:
    """The catalogue in Redis, with the order of its changes for those who follow them."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        stem = settings.key("{catalogue}")
        self._keys = (f"{stem}:items", f"{stem}:changes", f"{stem}:marks")
        self._script: AsyncScript = redis.register_script(load_script("change_item.lua"))

    async def apply(self, changes: Sequence[ItemChange]) -> int:
        """Apply changes, each once; return how many were new. Raises `RedisError`."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for change in changes:
                raw = msgspec.json.encode(change.item) if change.item else b""
                await self._script(
                    keys=self._keys,
                    args=[
                        f"items/{change.partition}",
                        change.topic_id,
                        change.offset,
                        change.item_id,
                        raw,
                    ],
                    client=pipeline,
                )
            return sum(await pipeline.execute())

    async def changes_since(self, sequence: int) -> tuple[int, dict[str, Item | None]]:
        """Return the newest change's number, and the items changed after `sequence`.

        From 0: every item there is, and as None every one deleted. Each item once, as it is now.
        """
        items, changes, _ = self._keys
        rows: list[Any] = await self._redis.zrangebyscore(
            changes, f"({sequence}", "+inf", withscores=True
        )
        if not rows:
            return sequence, {}
        item_ids = [text(item_id) for item_id, _ in rows]
        raws = await self._redis.hmget(items, item_ids)
        changed = {
            item_id: _decoder.decode(raw) if raw else None
            for item_id, raw in zip(item_ids, raws, strict=True)
        }
        return int(rows[-1][1]), changed

    async def all(self) -> list[Item]:
        """Return every item."""
        return [_decoder.decode(raw) for raw in await self._redis.hvals(self._keys[0])]

    async def get(self, item_id: str) -> Item | None:
        """Return the item, or None when the catalogue has none of this id."""
        raw = await self._redis.hget(self._keys[0], item_id)
        return _decoder.decode(raw) if raw else None
