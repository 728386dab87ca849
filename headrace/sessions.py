"""A user's session: the newest interactions with items, kept in Redis, each event applied once.

Four keys a user, in one slot of a cluster: the session dictionary, the ids seen, and the marks,
which say up to which offset of each topic's partition events have been applied, and how many; and
the items that the user has hidden, which no event changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter, lt
from typing import Annotated, Any, Literal, Union, cast

import msgspec
from msgspec import Meta, Struct
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.commands.core import AsyncScript

from headrace import changed_users
from headrace.erasures import Erasure
from headrace.errors import TooManyHidden
from headrace.events import AnyEvent, ItemId
from headrace.settings import Settings
from headrace.store import (
    Reading,
    ScriptReading,
    call,
    load_script,
    pipelined,
    read_together,
    text,
)
from headrace.topics import Topics

Kind = Literal["click", "purchase", "rating"]
Outcome = Literal["new", "known", "erased"]
"""Of an event: applied now; applied before; its user was erased after it."""
_OUTCOMES: dict[str, Outcome] = {"n": "new", "o": "known", "e": "erased"}
ERASED_S = 24 * 3600
"""Seconds for which a user's erasure stays beside the session at the least."""
EXPIRES_AFTER = 0.99
"""Of the time to live: a session is gone at the earliest so long after its user's last event, for
`apply_events.lua` does not put its end off before."""
_NO_MARKS = frozenset((b"applied", b"erased"))
"""Fields of the hash of marks that are none."""
_WITHOUT_BRACES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})
_SCAN, _SCANS = 1_000, 50
"""Keys looked at in one step, and steps at the most, to meet some users: a few milliseconds."""
MAX_HIDDEN = 5_000
"""Items that a user may have hidden: all of them are read with the session."""
_EVENTS_A_CALL = 100
"""In one Lua call: bounds the time for which Redis does nothing else."""


class Interaction(Struct, frozen=True):
    """The newest event of one item, as the HTTP API takes and shows it.

    Shown, it has all its fields: left out would be those that are the very objects of the defaults,
    and a text that was read is another object each time.
    """

    timestamp: Annotated[float, Meta(ge=0)]
    """Unix seconds."""
    rating: Annotated[float, Meta(ge=-1_000, le=1_000)] | None = None
    event: Kind = "rating"


Interactions = dict[ItemId, Interaction]


class Session(Struct, frozen=True):
    """A session dictionary as columns, oldest interaction first; one interaction an item."""

    item_ids: tuple[str, ...] = ()
    timestamps: tuple[float, ...] = ()
    """Unix seconds."""
    kinds: tuple[str, ...] = ()
    ratings: tuple[float | None, ...] = ()
    applied: int = 0
    """Events applied so far, those included that changed nothing."""
    marks: dict[str, int] = {}
    """By `<topic>/<partition>`, the last offset applied."""
    hidden: tuple[str, ...] = ()
    """Items that the user never wants to be shown."""

    @classmethod
    def from_interactions(cls, interactions: Mapping[str, Interaction], limit: int) -> Session:
        """Return the session of the newest `limit` of these; equal timestamps keep their order."""
        rows = sorted(interactions.items(), key=lambda row: row[1].timestamp)[-limit:]
        return cls(
            item_ids=tuple(item_id for item_id, _ in rows),
            timestamps=tuple(interaction.timestamp for _, interaction in rows),
            kinds=tuple(interaction.event for _, interaction in rows),
            ratings=tuple(interaction.rating for _, interaction in rows),
        )

    def interactions(self) -> dict[str, Interaction]:
        """Return the session dictionary, oldest first."""
        rows = zip(self.item_ids, self.timestamps, self.ratings, self.kinds, strict=True)
        return {
            item_id: Interaction(timestamp, rating, kind)  # type: ignore[arg-type]
            for item_id, timestamp, rating, kind in rows
        }

    def without(self, row: int) -> Session:
        """Return the session as it would be without one of its interactions."""
        after = row + 1
        return msgspec.structs.replace(
            self,
            item_ids=self.item_ids[:row] + self.item_ids[after:],
            timestamps=self.timestamps[:row] + self.timestamps[after:],
            kinds=self.kinds[:row] + self.kinds[after:],
            ratings=self.ratings[:row] + self.ratings[after:],
        )

    @property
    def updated_at(self) -> float | None:
        """Unix seconds of the newest interaction."""
        return self.timestamps[-1] if self.timestamps else None


class Mark(Struct, frozen=True):
    """Up to where in a partition events have been applied to a session."""

    topic_id: str
    offset: int
    """The last one applied."""


class Held(Struct, frozen=True):
    """All that is held of a user, as of one moment."""

    session: Session
    marks: dict[str, Mark]
    """By `<topic>/<partition>`."""


class LoggedEvent(Struct, frozen=True):
    """An event and where in the log it stands."""

    event: AnyEvent
    topic: str
    """Without the prefix."""
    topic_id: str
    partition: int
    offset: int

    @property
    def mark(self) -> str:
        """The name of its topic's partition among a session's marks."""
        return f"{self.topic}/{self.partition}"


class SessionStore:
    """The sessions in Redis. Reading never writes: an unknown user has an empty session."""

    def __init__(self, redis: Redis, settings: Settings, *, expiring: bool = True) -> None:
        """What is not `expiring` stays until somebody deletes it."""
        self._redis = redis
        self._bounds = settings.sessions
        self._prefix = settings.state_key("user", "")
        self._hidden_prefix = settings.state_key("hidden", "")
        self._kinds = Topics(settings).kinds
        self._channel = changed_users.channel(settings)
        self._ttl_s = settings.sessions.ttl_s if expiring else 0
        self._script: AsyncScript = redis.register_script(load_script("apply_events.lua"))
        self._erase: AsyncScript = redis.register_script(load_script("erase_user.lua"))
        self._read = load_script("read_sessions.lua")

    async def apply(self, events: Sequence[LoggedEvent]) -> list[Outcome]:
        """Apply events, each user's in the order given; return what became of each.

        An event at or before its partition's mark changes nothing, so the same batch may be
        applied again after a failure. Raises `redis.exceptions.RedisError`.
        """
        pieces = list(_pieces(events))
        calls = [self._call(events, piece) for piece in pieces]
        changed = changed_users.encode(each.event.user_id for each in events)

        def queue(pipeline: Pipeline) -> None:
            for keys, argument in calls:
                call(pipeline, self._script, keys, argument)
            # Last: who hears of it finds the events applied.
            pipeline.publish(self._channel, changed)

        *answers, _ = await pipelined(self._redis, queue, self._script)
        outcomes: list[Outcome] = ["new"] * len(events)
        for piece, answer in zip(pieces, answers, strict=True):
            if answer != b"n" * len(piece):
                for index, letter in zip(piece, text(answer), strict=True):
                    outcomes[index] = _OUTCOMES[letter]
        return outcomes

    async def read(self, user_id: str) -> Session:
        """Return the user's session; empty for an unknown user."""
        [session] = await read_together(self._redis, self.reading(user_id))
        return cast(Session, session)

    def reading(self, user_id: str) -> ScriptReading[Session]:
        """Return how to read the user's session, together with other things."""
        items, _, marks = self._keys(user_id)
        return ScriptReading(
            self._read,
            (marks, items, self._hidden(user_id)),
            lambda answers: _session(_pairs(answers[1]), _pairs(answers[0]), answers[2]),
        )

    async def held(self, user_id: str) -> Held:
        """Return what is held of the user: the dictionary holds what the marks say, and no more.

        Raises `redis.exceptions.RedisError`.
        """
        items, _, marks = self._keys(user_id)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(marks)
            pipeline.hgetall(items)
            pipeline.zrange(self._hidden(user_id), 0, -1)
            fields, rows, hidden = await pipeline.execute()
        return Held(_session(rows, fields, hidden), _read_marks(fields))

    def reading_marks(self, user_id: str) -> Reading[dict[str, Mark]]:
        """Return how to read the user's marks, by `<topic>/<partition>`, with other things."""
        key = self._keys(user_id)[2]
        return Reading(
            lambda pipeline: pipeline.hgetall(key), lambda answers: _read_marks(answers[0])
        )

    async def some_users(self, most: int) -> dict[str, int]:
        """Return users with a session, the first ones met, and how many interactions each has.

        There may be none although there are users, where nearly all keys are of something else.
        Raises `redis.exceptions.RedisError`.
        """
        found: dict[str, str] = {}
        cursor = 0
        for _ in range(_SCANS):
            cursor, keys = await self._redis.scan(
                cursor, match=f"{self._prefix}{{*}}:items", count=_SCAN
            )
            found |= {_user_of(text(key)[len(self._prefix) :]): text(key) for key in keys}
            if int(cursor) == 0 or len(found) >= most:
                break
        chosen = list(found)[:most]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for user_id in chosen:
                pipeline.hlen(found[user_id])
            counts = await pipeline.execute() if chosen else []
        # One may have been erased, or expired, since it was met.
        return {each: count for each, count in zip(chosen, counts, strict=True) if count}

    async def seen(self, user_id: str, item_ids: Sequence[str]) -> list[bool]:
        """Return of each item whether the user has met it, beyond the session dictionary too."""
        if not item_ids:
            return []
        scores = await self._redis.zmscore(self._keys(user_id)[1], list(item_ids))
        return [score is not None for score in scores]

    async def all_seen(self, user_id: str) -> list[str]:
        """Return every item that the user is known to have met."""
        return [
            text(item_id) for item_id in await self._redis.zrange(self._keys(user_id)[1], 0, -1)
        ]

    async def hide(self, user_id: str, item_id: str, *, now: float) -> bool:
        """Never show the user this item again; return whether it was shown until now.

        `now`: Unix seconds. Unlike a session this does not expire; unhiding and erasing end it.
        Raises `TooManyHidden`, `redis.exceptions.RedisError`.
        """
        return bool(await self.hide_all(user_id, [item_id], now=now))

    async def hide_all(self, user_id: str, item_ids: Sequence[str], *, now: float) -> int:
        """Never show the user these items again; return how many were shown until now.

        `now`: Unix seconds; what is hidden already keeps its time. Raises `TooManyHidden`,
        `redis.exceptions.RedisError`.
        """
        if not item_ids:
            return 0
        key = self._hidden(user_id)
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zmscore(key, list(item_ids))
            pipeline.zcard(key)
            since, count = await pipeline.execute()
        new = {item_id: now for item_id, at in zip(item_ids, since, strict=True) if at is None}
        if count + len(new) > MAX_HIDDEN:
            raise TooManyHidden(
                f"The user {user_id!r} has hidden {count:,} items, {len(new):,} would join them, "
                f"and {MAX_HIDDEN:,} is the most one may; unhide some."
            )
        if new:
            await self._redis.zadd(key, new, nx=True)
            await self._tell(user_id)
        return len(new)

    async def unhide(self, user_id: str, item_id: str) -> bool:
        """Let the user be shown this item again; return whether it was hidden.

        Raises `redis.exceptions.RedisError`.
        """
        hidden = bool(await self._redis.zrem(self._hidden(user_id), item_id))
        if hidden:
            await self._tell(user_id)
        return hidden

    async def hidden(self, user_id: str) -> dict[str, float]:
        """Return what the user has hidden and when, in Unix seconds, the oldest first."""
        rows: list[Any] = await self._redis.zrange(self._hidden(user_id), 0, -1, withscores=True)
        return {text(item_id): at for item_id, at in rows}

    async def erase(self, erasure: Erasure) -> bool:
        """Erase what an erasure covers; return whether there was anything.

        For a day the erasure itself stays with the marks, for a worker that has not heard of it and
        comes with events from before. Erasing again changes nothing. Raises
        `redis.exceptions.RedisError`.
        """
        last = {
            f"{topic}/{partition}": f"{erasure.topic_ids[topic]}:{end - 1}"
            for topic, by_partition in erasure.through.items()
            if topic in self._kinds
            for partition, end in by_partition.items()
        }
        topics = {kind: topic for topic, kind in self._kinds.items()}
        # What has been hidden since stays.
        await self._redis.zremrangebyscore(self._hidden(erasure.user_id), "-inf", erasure.at)
        erased = bool(
            await self._erase(
                keys=self._keys(erasure.user_id),
                args=[
                    msgspec.json.encode({"at": int(erasure.at * 1000), **last}),
                    msgspec.json.encode(topics),
                    ERASED_S,
                ],
            )
        )
        await self._tell(erasure.user_id)
        return erased

    async def _tell(self, user_id: str) -> None:
        await self._redis.publish(self._channel, changed_users.encode([user_id]))

    def _keys(self, user_id: str) -> tuple[str, str, str]:
        stem = f"{self._prefix}{_slot(user_id)}"
        return f"{stem}:items", f"{stem}:seen", f"{stem}:marks"

    def _hidden(self, user_id: str) -> str:
        """Return the key of a sorted set: hidden item id by when it was hidden, in Unix seconds.

        It lies in the user's slot, but not among the keys of the state (`headrace.state`): the log
        does not tell of it, so it stays when the state is rebuilt.
        """
        return f"{self._hidden_prefix}{_slot(user_id)}"

    def _call(self, events: Sequence[LoggedEvent], piece: Sequence[int]) -> tuple[list[str], bytes]:
        """Return keys and argument of a call of the script with these of the events."""
        users: dict[str, int] = {}
        rows = []
        for index in piece:
            logged = events[index]
            event = logged.event
            rows.append(
                (
                    users.setdefault(event.user_id, len(users) + 1),
                    logged.mark,
                    logged.topic_id,
                    logged.offset,
                    event.item_id,
                    event.timestamp,
                    msgspec.json.encode(_value(logged)).decode(),
                )
            )
        bounds = self._bounds
        keys = [key for user_id in users for key in self._keys(user_id)]
        return keys, msgspec.msgpack.encode((bounds.limit, bounds.seen_limit, self._ttl_s, rows))


def _slot(user_id: str) -> str:
    """Return what keeps a user's keys in one slot of a cluster.

    What stands in the braces is hashed, so it holds no brace.
    """
    return f"{{{user_id.translate(_WITHOUT_BRACES)}}}"


def session_keys(key: bytes) -> tuple[bytes, ...]:
    """Return the keys that change together with this one, if it is one of a user's; else none."""
    stem = key.rpartition(b":")[0]
    if b":user:{" not in stem or not stem.endswith(b"}"):
        return ()
    return tuple(stem + b":" + each for each in (b"items", b"seen", b"marks"))


def _user_of(key: str) -> str:
    """Return the user of a key of a session dictionary, without the prefix."""
    stem = key[1 : -len("}:items")]
    return stem.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")


_Value = tuple[float, str, int, int, Union[float, None]]
_values = msgspec.json.Decoder(list[_Value])


def _value(logged: LoggedEvent) -> _Value:
    """Return what is stored of an event: its order, then its rating."""
    event = logged.event
    return (
        event.timestamp,
        event.kind,
        logged.partition,
        logged.offset,
        getattr(event, "rating", None),
    )


def _session(
    rows: Mapping[bytes, bytes], fields: Mapping[bytes, bytes], hidden_ids: Sequence[bytes]
) -> Session:
    values = _values.decode(b"[" + b",".join(rows.values()) + b"]")
    applied = int(fields.get(b"applied", 0))
    marks = {name: mark.offset for name, mark in _read_marks(fields).items()}
    hidden = tuple([item_id.decode() for item_id in hidden_ids])
    if not values:
        return Session(applied=applied, marks=marks, hidden=hidden)
    item_ids = tuple([item_id.decode() for item_id in rows])
    timestamps, kinds, partitions, offsets, ratings = zip(*values, strict=True)
    # Mostly Redis has kept them as they came, and that was in their order.
    if not all(map(lt, timestamps, timestamps[1:])):
        # The id, which no two have, settles what is left.
        order = zip(timestamps, kinds, partitions, offsets, item_ids, ratings, strict=True)
        ordered = sorted(order, key=itemgetter(0, 1, 2, 3, 4))
        timestamps, kinds, _, _, item_ids, ratings = zip(*ordered, strict=True)
    return Session(item_ids, timestamps, kinds, ratings, applied, marks, hidden)


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return a hash that a script has read."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _read_marks(fields: Mapping[bytes, bytes]) -> dict[str, Mark]:
    marks = {}
    for name, mark in fields.items():
        if name not in _NO_MARKS:
            topic_id, _, offset = mark.decode().rpartition(":")
            marks[name.decode()] = Mark(topic_id, int(offset))
    return marks


def _pieces(events: Sequence[LoggedEvent]) -> Iterator[Sequence[int]]:
    """Yield the indices of the events for each call of the script; each user's stay in order.

    All events of a user stand in one call. Redis may refuse one of a pipeline and take the next: if
    that moved a mark of the same user on, what was refused would count as applied from then on.

    The script takes users of one slot together: on a single server any, on a cluster these.
    """
    of_user: dict[str, list[int]] = {}
    for index, logged in enumerate(events):
        of_user.setdefault(logged.event.user_id, []).append(index)
    piece: list[int] = []
    for indices in of_user.values():
        if piece and len(piece) + len(indices) > _EVENTS_A_CALL:
            yield piece
            piece = []
        piece += indices
    if piece:
        yield piece
