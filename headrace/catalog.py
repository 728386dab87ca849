"""The catalogue: what the items are. Kafka's `items` topic brings it, Redis keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.commands.core import AsyncScript

from headrace.errors import InvalidItem
from headrace.events import MAX_BYTES, Context, ItemId, decode
from headrace.settings import Settings
from headrace.store import (
    AnyReading,
    Reading,
    call,
    load_script,
    pipelined,
    read_together,
    text,
)

_AT_ONCE = 1_000
"""Changed items read in one call: bounds the time for which Redis does nothing else."""

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


class ChangedItem(Struct, frozen=True):
    """An item as it is now, None for a deleted one, and the number of its last change."""

    number: int
    item: Item | None


class Deletions(Struct, frozen=True):
    """Which items have been deleted, and how far in the order of changes that is known."""

    sequence: int
    """The newest change's number."""
    numbers: Mapping[str, int]
    """By item id, the number of its deletion."""


class CatalogStore:
    """The catalogue in Redis, with the order of its changes for those who follow them."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        stem = settings.key("{catalogue}")
        self._items, self._changes, self._deleted, self._marks = self._keys = tuple(
            f"{stem}:{name}" for name in ("items", "changes", "deleted", "marks")
        )
        self._script: AsyncScript = redis.register_script(load_script("change_item.lua"))
        self._changed: AsyncScript = redis.register_script(load_script("changes_since.lua"))

    async def apply(self, changes: Sequence[ItemChange]) -> int:
        """Apply changes, each once; return how many were new. Raises `RedisError`.

        One that is older than what has been applied of the same item changes nothing.
        """

        def queue(pipeline: Pipeline) -> None:
            for change in changes:
                raw = msgspec.json.encode(change.item) if change.item else b""
                of_change = (change.topic_id, change.partition, change.offset, change.item_id, raw)
                call(pipeline, self._script, self._keys, *of_change)

        return sum(await pipelined(self._redis, queue, self._script))

    async def changes_since(
        self, sequence: int, at_most: int = _AT_ONCE
    ) -> tuple[int, dict[str, ChangedItem]]:
        """Return a change's number, and the items changed after `sequence` and up to it.

        Each item once, as it is now, in the order of their last changes; when there are more than
        `at_most`, the first ones. From 0 on: every item there is, and as None every one deleted.
        """
        rows = await self._changed(
            keys=[self._items, self._changes], args=[sequence, min(at_most, _AT_ONCE)]
        )
        changed = {
            text(item_id): ChangedItem(int(number), _decoder.decode(raw) if raw else None)
            for number, item_id, raw in zip(rows[::3], rows[1::3], rows[2::3], strict=True)
        }
        return int(rows[-3]) if rows else sequence, changed

    def deletions(self, since: int) -> Reading[Deletions]:
        """Return how to read which items were deleted after this change and still are."""

        def queue(pipeline: Pipeline) -> None:
            # The sequence first: what is deleted in between is newer than it says, never missing.
            pipeline.hget(self._marks, "sequence")
            pipeline.zrangebyscore(self._deleted, f"({since}", "+inf", withscores=True)

        def parse(answers: list[Any]) -> Deletions:
            sequence, rows = answers
            return Deletions(int(sequence or 0), {text(at): int(number) for at, number in rows})

        return Reading(queue, parse)

    async def read_with_deletions(
        self, since: int, *readings: AnyReading
    ) -> tuple[Deletions, list[Any]]:
        """Read other things and, in the same round trip, what was deleted after this change.

        Raises `RedisError`.
        """
        # What was deleted comes last: it is at least as new as everything else.
        *others, deletions = await read_together(self._redis, *readings, self.deletions(since))
        return deletions, others

    async def all(self) -> list[Item]:
        """Return every item."""
        return [_decoder.decode(raw) for raw in await self._redis.hvals(self._items)]

    async def get(self, item_id: str) -> Item | None:
        """Return the item, or None when the catalogue has none of this id."""
        raw = await self._redis.hget(self._items, item_id)
        return _decoder.decode(raw) if raw else None

    async def get_many(self, item_ids: Sequence[str]) -> list[Item]:
        """Return those of these items that there are, in the order given. Raises `RedisError`."""
        raws = await self._redis.hmget(self._items, list(item_ids)) if item_ids else []
        return [_decoder.decode(raw) for raw in raws if raw]

    async def sequence(self) -> int:
        """Return the number of the newest change, 0 before the first. Raises `RedisError`."""
        return int(await self._redis.hget(self._marks, "sequence") or 0)
