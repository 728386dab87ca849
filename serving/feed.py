"""Streams of lists: a new one whenever the user's session changes, as server-sent events.

Framing as in the HTML standard, section 9.2. A client that reads slowly is not written to until it
has read; then it gets the newest list, whatever came in between.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Send

from headrace.settings import Settings
from serving.impressions import ImpressionLog
from serving.live_model import LiveModel
from serving.problems import RETRY_AFTER_S, Problem
from serving.recommender import Made, Recommender
from serving.schemas import Recommendation, RecommendationAnswer, RecommendationRequest
from serving.stability import settle
from serving.user_changes import UserChanges

EVENT = "recommendations"
_AT_ONCE = 16
"""Lists made at once: when all streams are to be renewed, other requests need not wait for all."""
_HEARTBEAT = b": heartbeat\n\n"


@dataclass(eq=False)
class _Open:
    """A stream that is open."""

    changed: asyncio.Event
    shown: Sequence[Recommendation] = ()


OpenStreams = set[_Open]
"""All streams of a server, whatever model's they are."""


class Feed:
    """The open streams of one model on one server."""

    def __init__(
        self,
        settings: Settings,
        recommender: Recommender,
        live: LiveModel,
        changes: UserChanges,
        impressions: ImpressionLog,
        open_streams: OpenStreams,
    ) -> None:
        """`open_streams`: of all models, which share the room."""
        self._settings = settings.serving
        self._recommender = recommender
        self._live = live
        self._changes = changes
        self._impressions = impressions
        self._open = open_streams
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
        self, asked: RecommendationRequest, stability: int | None, last_id: str
    ) -> AsyncIterator[bytes]:
        """Yield the stream's bytes, until the server ends.

        `stability` bounds how many items change from one list to the next. `last_id` is the id of
        the list that the client has, or "".
        """
        yield b"retry: %d\n\n" % (RETRY_AFTER_S * 1000)
        with self._changes.watch(asked.user_id or "") as changed:
            stream = _Open(changed)
            self._open.add(stream)
            try:
                while not self._closing:
                    # Before the session is read: what changes from now on is another list.
                    changed.clear()
                    made = await self._answer(asked, stability, stream.shown)
                    answer = made.answer
                    stream.shown = answer.recommendations
                    list_id = _list_id(answer)
                    if list_id != last_id:
                        last_id = list_id
                        self._impressions.note(
                            asked, answer, made.session, by="stream", stability=stability
                        )
                        yield _frame(list_id, answer)
                    while not await self._is_set(changed):
                        yield _HEARTBEAT
            finally:
                self._open.discard(stream)

    def close(self) -> None:
        """End all streams; each one's client comes again, to another server or to the next one."""
        self._closing = True
        self._changes.wake_all()

    async def follow(self) -> None:
        """Renew lists when another version is live or an item is deleted, until cancelled."""
        versions, heard = self._live.versions, self._live.deleted.heard
        while True:
            await asyncio.sleep(self._settings.follow_s)
            if self._live.versions != versions:
                versions = self._live.versions
                self._changes.wake_all()
            if self._live.deleted.heard != heard:
                heard = self._live.deleted.heard
                self._renew_with_deleted()

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

    async def _answer(
        self, asked: RecommendationRequest, stability: int | None, shown: Sequence[Recommendation]
    ) -> Made:
        async with self._making:
            made = await self._recommender.answer(asked)
            if stability is None or not shown:
                return made
            left = await self._still_allowed(asked, shown)
            settled = settle(made.answer.recommendations, left, stability)
            answer = msgspec.structs.replace(made.answer, recommendations=settled)
            return Made(answer, made.session)

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


def _list_id(answer: RecommendationAnswer) -> str:
    """Return an id that two answers share when they say the same."""
    said = msgspec.json.encode(msgspec.structs.replace(answer, id=""))
    return hashlib.blake2b(said, digest_size=8).hexdigest()


def _frame(list_id: str, answer: RecommendationAnswer) -> bytes:
    # JSON as msgspec writes it is one line.
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        list_id.encode(),
        EVENT.encode(),
        msgspec.json.encode(answer),
    )
