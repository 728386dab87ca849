"""Streams of lists: a new one whenever the user's session changes, as server-sent events.

Framing as in the HTML standard, section 9.2. A client that reads slowly is not written to until it
has read; then it gets the newest list, whatever came in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec
from redis.exceptions import RedisError
from starlette.responses import StreamingResponse
from starlette.types import Send

from headrace.impressions import ImpressionStore
from headrace.settings import Settings
from serving.impressions import ImpressionLog
from serving.live_model import LiveModel
from serving.problems import RETRY_AFTER_S, Problem
from serving.recommender import Made, Recommender
from serving.schemas.recommendations import Recommendation, RecommendationRequest, ServedList
from serving.stability import settle
from serving.user_changes import UserChanges

logger = logging.getLogger(__name__)

EVENT = "recommendations"
END = "end"
"""The last event of a stream whose caller may not go on; its data say why."""
_AT_ONCE = 16
"""Lists made at once, whose sessions are read together. When all streams are to be renewed, other
requests need not wait for all."""
_HEARTBEAT = b": heartbeat\n\n"
_BETWEEN = "."
"""In an event's id, between what tells whether two lists say the same, and the list's own id."""
Refusal = Callable[[], "str | None"]
"""Tells in words why the caller may not go on reading the stream, None while it may."""


@dataclass(eq=False)
class _Open:
    """A stream that is open."""

    asked: RecommendationRequest
    stability: int | None
    changed: asyncio.Event
    refusal: Refusal
    shown: Sequence[Recommendation] = ()


_Asked = tuple["str | None", int, bool, float, bool, "bytes | None"]
"""What a request of a stream can differ in."""
OpenStreams = set[_Open]
"""All streams of a server, whatever model's they are."""


@dataclass(eq=False)
class _Listed:
    """A list as it is sent."""

    made: Made
    said: str
    """Shared by two lists that say the same."""
    frame: bytes
    is_noted: bool = False
    """Whether it stands among the impressions."""


@dataclass(eq=False)
class _Wanted:
    """A list that waits to be made, for all streams that ask for the same."""

    streams: list[_Open] = field(default_factory=list)
    made: asyncio.Task[_Listed] | None = None


class Feed:
    """The open streams of one model on one server."""

    def __init__(
        self,
        settings: Settings,
        recommender: Recommender,
        live: LiveModel,
        changes: UserChanges,
        impressions: ImpressionLog,
        served: ImpressionStore,
        open_streams: OpenStreams,
        new_id: Callable[[], str],
    ) -> None:
        """`open_streams`: of all models, which share the room."""
        self._settings = settings.serving
        self._model_id = settings.model_id
        self._recommender = recommender
        self._live = live
        self._changes = changes
        self._impressions = impressions
        self._served = served
        self._open = open_streams
        self._new_id = new_id
        self._wanted: dict[_Asked, _Wanted] = {}
        self._making = asyncio.Semaphore(_AT_ONCE)
        self._closing = False

    def __len__(self) -> int:
        """Return how many streams are open, of all models."""
        return len(self._open)

    def check_room(self) -> None:
        """Raise `Problem` 503 unless one more stream may be opened."""
        limit = self._settings.streams_limit
        if self._closing or len(self._open) >= limit:
            why = "it is ending" if self._closing else f"it has {limit:,} open"
            raise Problem(
                503,
                f"This server takes no more streams: {why}. Try again.",
                retry_after_s=RETRY_AFTER_S,
            )

    async def stream(
        self,
        asked: RecommendationRequest,
        stability: int | None,
        last_id: str,
        refusal: Refusal = lambda: None,
    ) -> AsyncIterator[bytes]:
        """Yield the stream's bytes, until the server ends or the caller may not go on.

        `stability` bounds how many items change from one list to the next. `last_id` is the id of
        the list that the client has, or "": where that list is found, it is gone on from.
        """
        last_said, _, list_id = last_id.partition(_BETWEEN)
        yield b"retry: %d\n\n" % (RETRY_AFTER_S * 1000)
        with self._changes.watch(asked.user_id or "") as changed:
            stream = _Open(asked, stability, changed, refusal)
            self._open.add(stream)
            try:
                if stability is not None and list_id:
                    stream.shown = await self._shown(asked, list_id)
                while not self._closing:
                    if (why := refusal()) is not None:
                        yield _end(why)
                        return
                    listed = await self._list(stream)
                    stream.shown = listed.made.answer.recommendations
                    if listed.said != last_said:
                        last_said = listed.said
                        self._note(stream, listed)
                        yield listed.frame
                    while not await self._is_set(changed):
                        yield _HEARTBEAT
            finally:
                self._open.discard(stream)

    def close(self) -> None:
        """End all streams; each one's client comes again, to another server or to the next one."""
        self._closing = True
        self._changes.wake_all()

    async def follow(self) -> None:
        """Renew lists when another version is live or an item is deleted, until cancelled.

        Streams whose caller may not go on are ended.
        """
        versions, heard = self._live.versions, self._live.deleted.heard
        while True:
            await asyncio.sleep(self._settings.follow_s)
            if self._live.versions != versions:
                versions = self._live.versions
                self._changes.wake_all()
            if self._live.deleted.heard != heard:
                heard = self._live.deleted.heard
                self._renew_with_deleted()
            for stream in self._open:
                if stream.refusal() is not None:
                    stream.changed.set()

    def _renew_with_deleted(self) -> None:
        for stream in self._open:
            if any(row.id in self._live.deleted for row in stream.shown):
                stream.changed.set()

    async def _is_set(self, changed: asyncio.Event) -> bool:
        """Wait until the event is set; return False when it is time for a heartbeat before that."""
        try:
            await asyncio.wait_for(changed.wait(), self._settings.heartbeat_s)
        except asyncio.TimeoutError:
            return False
        return True

    def _note(self, stream: _Open, listed: _Listed) -> None:
        """Note what is served, once for all streams that share the list."""
        if not listed.is_noted:
            listed.is_noted = True
            self._impressions.note(
                stream.asked,
                listed.made.answer,
                listed.made.session,
                by="stream",
                stability=stream.stability,
            )

    async def _list(self, stream: _Open) -> _Listed:
        """Return the stream's next list, made from the session as it is from now on."""
        asked = stream.asked
        key = _key(asked)
        wanted = self._wanted.setdefault(key, _Wanted())
        wanted.streams.append(stream)
        if wanted.made is None:
            wanted.made = asyncio.create_task(self._make(key, asked), name="make a list")
        # Others may wait for the same list: a client that goes away must not cancel it.
        listed = await asyncio.shield(wanted.made)
        if stream.stability is None or not stream.shown:
            return listed
        async with self._making:
            return await self._settled(listed.made, stream, stream.stability)

    async def _shown(self, asked: RecommendationRequest, list_id: str) -> Sequence[Recommendation]:
        """Return what a list showed, nothing if it is not known or another user's or model's."""
        try:
            found = await self._served.find(list_id)
        except (RedisError, OSError) as exc:
            logger.warning("what a stream showed cannot be read, it begins anew: %r", exc)
            return ()
        if found is None or (found.user_id, found.model_id) != (asked.user_id, self._model_id):
            return ()
        return ServedList.of(found).recommendations

    async def _make(self, key: _Asked, asked: RecommendationRequest) -> _Listed:
        async with self._making:
            # Here, not before the wait: what has changed until now is in this list, and what
            # changes from now on is another one.
            for stream in self._wanted.pop(key).streams:
                stream.changed.clear()
            return _listed(await self._recommender.answer(asked))

    async def _settled(self, made: Made, stream: _Open, stability: int) -> _Listed:
        """Return the list with no more items changed than `stability` says: one of its own."""
        left = await self._still_allowed(stream.asked, stream.shown)
        settled = settle(made.answer.recommendations, left, stability)
        answer = msgspec.structs.replace(made.answer, id=self._new_id(), recommendations=settled)
        return _listed(Made(answer, made.session))

    async def _still_allowed(
        self, asked: RecommendationRequest, shown: Sequence[Recommendation]
    ) -> list[Recommendation]:
        """Return what may still be shown of a list, with its scores as they are now."""
        candidates = [row.id for row in shown if row.id not in self._live.deleted]
        made = await self._recommender.answer(
            msgspec.structs.replace(asked, candidate_ids=candidates, k=max(1, len(candidates)))
        )
        ranked = made.answer
        if ranked.model is not None:
            return ranked.recommendations
        allowed = {row.id for row in ranked.recommendations}
        return [row for row in shown if row.id in allowed]


class EventStream(StreamingResponse):
    """A response of server-sent events."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncIterator[bytes]) -> None:
        # nginx holds answers back unless it is told not to.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(frames, headers=headers)

    async def stream_response(self, send: Send) -> None:
        """Send the frames; what they hold is let go as soon as the client has gone."""
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().stream_response(send)


def _key(asked: RecommendationRequest) -> _Asked:
    limits = None if asked.filter is None else msgspec.json.encode(asked.filter)
    return (
        asked.user_id, asked.k, asked.recommend_seen, asked.diversity, asked.explain, limits
    )  # fmt: skip


def _listed(made: Made) -> _Listed:
    raw = msgspec.json.encode(made.answer)
    # All but the answer's own id, which comes first.
    rest = raw.partition(b",")[2]
    said = hashlib.blake2b(rest, digest_size=8).hexdigest()
    return _Listed(made, said, _frame(EVENT, raw, f"{said}{_BETWEEN}{made.answer.id}"))


def _end(why: str) -> bytes:
    return _frame(END, msgspec.json.encode({"reason": why}))


def _frame(event: str, raw: bytes, event_id: str = "") -> bytes:
    # JSON as msgspec writes it is one line.
    name = f"id: {event_id}\n" if event_id else ""
    return f"{name}event: {event}\ndata: ".encode() + raw + b"\n\n"
