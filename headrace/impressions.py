"""Impressions: which list was served to whom, from which version and session, with what limits.

Servers write them to the topic `impressions`, keyed by user. Workers keep them for a while, so that
any server can tell of a list by its id: as they stand in the topic, each under a key of its own.
Beside them stands which lists a user was served: that bounds their number, and lets them be erased
with the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray
from redis.asyncio import Redis

from headrace.errors import InvalidImpression
from headrace.events import UserId, decode
from headrace.sessions import Kind
from headrace.settings import Settings
from headrace.store import text

_Time = TypeVar("_Time", float, NDArray[np.float64])
ImpressionId = Annotated[str, Meta(pattern="^[0-9a-f]{32}(?!\\n)$")]
NEWEST = 10
"""Interactions of the session that an impression holds, the newest ones."""
MAX_BYTES = 256 * 1024
"""Longest record; a request with a filter of very many values may come to more."""
WITHOUT_USER = 10_000
"""Lists for sessions that came with their request which are found, the newest ones."""
_IN_THE_MAKING_S = 10.0
"""A list served so soon after an erasure may have been made of what was erased."""


class Asked(Struct, frozen=True, kw_only=True):
    """What a request asked for."""

    k: int
    recommend_seen: bool = False
    candidates: int | None = None
    """How many there were to rank; None: every item."""
    excluded: int = 0
    """How many items were left out."""
    shown: int = 0
    """How many items the pages before had shown."""
    filter: dict[str, Any] | None = None
    diversity: float = 0.0
    stability: int | None = None
    """Of a stream: how many items might change."""

    @property
    def is_unrestricted(self) -> bool:
        """Whether the list is the best that there was for the session, and nothing else."""
        return (
            self.candidates is None
            and not self.excluded
            and not self.shown
            and self.filter is None
            and not self.diversity
            and self.stability is None
        )


class Newest(Struct, frozen=True):
    """The newest interactions of a session as columns, the oldest of them first."""

    item_ids: tuple[str, ...] = ()
    timestamps: tuple[float, ...] = ()
    """Unix seconds."""
    kinds: tuple[Kind, ...] = ()
    ratings: tuple[float | None, ...] = ()


class SessionState(Struct, frozen=True, kw_only=True):
    """The session that a list was made from."""

    interactions: int
    applied: int
    updated_at: float | None
    """Unix seconds of the newest interaction."""
    marks: dict[str, int]
    """By `<topic>/<partition>`, the offset of the last event that the session knew."""
    newest: Newest


class Impression(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record of the topic: a list that was served."""

    id: ImpressionId
    user_id: UserId | None = None
    """None: the session came with the request."""
    served_at: Annotated[float, Meta(ge=0)]
    """Unix seconds."""
    by: Literal["request", "stream"] = "request"
    item_ids: tuple[str, ...]
    """Best first."""
    scores: tuple[float, ...]
    cold: tuple[str, ...] = ()
    """Those of the items that came after the training."""
    because: tuple[dict[str, float], ...] = ()
    """Of each item, by how much interactions had moved its score, if that was asked for."""
    message: str | None = None
    model_id: str
    version: str | None = None
    """None: the list is not the model's."""
    experiment: str | None = None
    """The A/B test that chose the version."""
    ranking: str | None = None
    """The version of the second stage that put the items in their order; None: none did."""
    asked: Asked
    session: SessionState


_decoder = msgspec.json.Decoder(Impression)


def parse_impression(value: bytes | None) -> Impression:
    """Read an impression from a record's value. Raises `InvalidImpression`."""
    if value is None:
        raise InvalidImpression("", "the record has no value; an impression is a JSON object")
    if len(value) > MAX_BYTES:
        raise InvalidImpression(
            "", f"the record is {len(value):,} bytes long; at most {MAX_BYTES:,}"
        )
    impression: Impression = decode(_decoder, value, InvalidImpression)
    _check_columns(impression)
    return impression


def _check_columns(impression: Impression) -> None:
    items, newest = len(impression.item_ids), impression.session.newest
    if len(impression.scores) != items:
        raise InvalidImpression("scores", "there is not one for each of `item_ids`")
    if impression.because and len(impression.because) != items:
        raise InvalidImpression("because", "there is not one for each of `item_ids`")
    if len(set(map(len, (newest.timestamps, newest.kinds, newest.ratings, newest.item_ids)))) > 1:
        raise InvalidImpression("session.newest", "its columns are not equally long")


def settled_s(served_at: _Time) -> _Time:
    """Return since when, in Unix seconds, what a list was made of had surely been read.

    An erasure after that covers the list. It takes one time, or an array of them.
    """
    return served_at - _IN_THE_MAKING_S


def forgotten_to(erased_at: float) -> float:
    """Return up to when, in Unix seconds, what was served may have been made of what was erased."""
    return erased_at + _IN_THE_MAKING_S


class ImpressionStore:
    """The impressions in Redis, each for `impressions.ttl_s`."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings.impressions
        self._list_prefix = settings.key("impressions", "list", "")
        self._of_prefix = settings.key("impressions", "of", "")

    async def keep(self, impressions: Sequence[tuple[Impression, bytes]]) -> None:
        """Keep impressions, each with its record's value; keeping one again changes nothing.

        Of each user the newest `impressions.per_user` stay. Raises `redis.exceptions.RedisError`.
        """
        ttl_s = self._settings.ttl_s
        users = list(dict.fromkeys(each.user_id for each, _ in impressions))
        async with self._redis.pipeline(transaction=False) as pipeline:
            # First: what stands in Redis of a user can be found, to be erased.
            for each, _ in impressions:
                pipeline.zadd(self._of(each.user_id), {each.id: each.served_at})
            for user_id in users:
                pipeline.expire(self._of(user_id), ttl_s)
            for each, value in impressions:
                pipeline.set(self._list(each.id), value, ex=ttl_s)
            for user_id in users:
                limit = self._settings.per_user if user_id is not None else WITHOUT_USER
                pipeline.zrange(self._of(user_id), 0, -limit - 1)
            answers = await pipeline.execute()
        for user_id, oldest in zip(users, answers[-len(users) :], strict=True):
            await self._drop(user_id, oldest)

    async def find(self, impression_id: str) -> Impression | None:
        """Return the impression of this id, None for one that is not known, or no longer.

        Raises `redis.exceptions.RedisError`.
        """
        value = await self._redis.get(self._list(impression_id))
        return None if value is None else parse_impression(cast(bytes, value))

    async def forget(self, user_id: str, *, until: float) -> None:
        """Forget what the user was served until then, in Unix seconds, and shortly after.

        Raises `redis.exceptions.RedisError`.
        """
        last = forgotten_to(until)
        ids = await self._redis.zrange(self._of(user_id), "-inf", last, byscore=True)
        await self._drop(user_id, cast("list[bytes]", ids))

    async def _drop(self, user_id: str | None, ids: Sequence[bytes]) -> None:
        if not ids:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for each in ids:
                pipeline.unlink(self._list(text(each)))
            pipeline.zrem(self._of(user_id), *ids)
            await pipeline.execute()

    def _list(self, impression_id: str) -> str:
        return f"{self._list_prefix}{impression_id}"

    def _of(self, user_id: str | None) -> str:
        """Return the key of a sorted set: the ids of what a user was served, by when."""
        return f"{self._of_prefix}{user_id or ''}"
