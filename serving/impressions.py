"""Logging what is served: answers are held for a moment, and sent to Kafka many at once.

No answer waits for that. What is held is bounded: while Kafka is away a list more is dropped, and
counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import msgspec
from aiokafka.errors import KafkaError

from headrace.experiment import Experiment
from headrace.impressions import MAX_BYTES, NEWEST, Asked, Impression, Newest, SessionState
from headrace.producer import Producer, Row
from headrace.sessions import Session
from headrace.settings import Settings
from headrace.topics import IMPRESSIONS, Topics
from serving.cursor import read_cursor
from serving.schemas.recommendations import RecommendationAnswer, RecommendationRequest

logger = logging.getLogger(__name__)

_HELD_S = 0.2
"""How long lists are gathered: a list can be found some third of a second after it was served."""
_AT_ONCE = 250
"""Lists sent in one go."""
_AGAIN_S = 1.0
"""Pause before a Kafka that was away is tried again."""
_CLOSE_WITHIN_S = 1.0

By = Literal["request", "stream"]


class ImpressionLog:
    """What one server has served and Kafka does not have yet."""

    def __init__(
        self,
        settings: Settings,
        experiment: Experiment,
        producer: Producer,
        clock: Callable[[], float],
    ) -> None:
        """`producer` is for this alone; `clock` gives Unix seconds."""
        self._topic = Topics(settings).name(IMPRESSIONS)
        self._is_on = settings.impressions.log
        self._limit = settings.impressions.buffer
        self._model_id = settings.model_id
        self._experiment = experiment
        self._producer = producer
        self._clock = clock
        self._held: deque[Row] = deque()
        self._sending: list[Row] = []
        """Taken from what is held, not acknowledged yet."""
        self._some = asyncio.Event()
        self.logged = 0
        """Lists that Kafka has acknowledged."""
        self.dropped = 0
        """Lists that were not logged: too many were held, or one was too long."""

    def __len__(self) -> int:
        """Return how many lists wait for Kafka."""
        return len(self._held) + len(self._sending)

    def note(
        self,
        request: RecommendationRequest,
        answer: RecommendationAnswer,
        session: Session,
        *,
        by: By = "request",
        stability: int | None = None,
    ) -> None:
        """Take note of an answer; costs some microseconds.

        Its record is what is kept: requests and sessions may be many times as long.
        """
        if not self._is_on:
            return
        if len(self) >= self._limit:
            self.dropped += 1
            return
        at = self._clock()
        impression = self._impression(at, request, answer, session, by, stability)
        value = msgspec.json.encode(impression)
        if len(value) > MAX_BYTES:
            self.dropped += 1
            return
        # Without a user: anywhere, but spread.
        key = request.user_id or answer.id
        self._held.append(Row(key.encode(), value, int(at * 1000)))
        self._some.set()

    async def follow(self) -> None:
        """Send what is noted, until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(_HELD_S)
            taken = await self._send_some()
            while taken and len(self._held) >= _AT_ONCE:
                taken = await self._send_some()
            if not taken:
                await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        """Send what is held and disconnect, within a moment; `follow` has been cancelled."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._finish(), _CLOSE_WITHIN_S)
        if len(self):
            logger.warning("%d lists that were served are not logged: Kafka is away", len(self))

    async def _finish(self) -> None:
        while len(self) and await self._send_some():
            pass
        await self._producer.close()

    async def _send_some(self) -> bool:
        """Send some of what is held; return whether Kafka took it.

        What it has not acknowledged is sent again: it may stand in the topic twice, under one id.
        """
        self._take()
        try:
            await self._producer.send_batched(self._topic, self._sending)
        except (KafkaError, OSError) as exc:
            logger.warning("%d lists that were served wait for Kafka: %r", len(self), exc)
            return False
        self.logged += len(self._sending)
        self._sending = []
        if not self._held:
            self._some.clear()
        return True

    def _take(self) -> None:
        while self._held and len(self._sending) < _AT_ONCE:
            self._sending.append(self._held.popleft())

    def _impression(
        self,
        at: float,
        request: RecommendationRequest,
        answer: RecommendationAnswer,
        session: Session,
        by: By,
        stability: int | None,
    ) -> Impression:
        rows = answer.recommendations
        return Impression(
            id=answer.id,
            user_id=request.user_id,
            served_at=at,
            by=by,
            item_ids=tuple([row.id for row in rows]),
            scores=tuple([row.score for row in rows]),
            cold=tuple([row.id for row in rows if row.cold]),
            because=tuple({why.id: why.effect for why in row.because} for row in rows)
            if request.explain
            else (),
            message=answer.message,
            model_id=self._model_id,
            version=answer.model.version if answer.model else None,
            experiment=self._chosen_by(request, answer),
            ranking=answer.ranking,
            asked=_asked(request, stability),
            session=_state(answer, session),
        )

    def _chosen_by(
        self, request: RecommendationRequest, answer: RecommendationAnswer
    ) -> str | None:
        """Return the A/B test that chose the version, None where none did, or another answered."""
        if not self._experiment or request.user_id is None or answer.model is None:
            return None
        arm = self._experiment.version_for(request.user_id)
        # Who is of no arm was given to the live version, which the arms are compared with.
        return self._experiment.name if arm in (None, answer.model.version) else None


def _asked(request: RecommendationRequest, stability: int | None) -> Asked:
    candidates = request.candidate_ids
    return Asked(
        k=request.k,
        recommend_seen=request.recommend_seen,
        candidates=None if candidates is None else len(candidates),
        excluded=len(request.exclude_ids),
        shown=0 if request.cursor is None else len(read_cursor(request.cursor)),
        filter=request.filter,
        diversity=request.diversity,
        stability=stability,
    )


def _state(answer: RecommendationAnswer, session: Session) -> SessionState:
    return SessionState(
        interactions=answer.session.interactions,
        applied=answer.session.applied,
        updated_at=answer.session.updated_at,
        marks=answer.session.marks,
        newest=Newest(
            session.item_ids[-NEWEST:],
            session.timestamps[-NEWEST:],
            session.kinds[-NEWEST:],  # type: ignore[arg-type]
            session.ratings[-NEWEST:],
        ),
    )
