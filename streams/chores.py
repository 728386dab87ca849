"""What a worker does by the clock. What is away is tried again at the next turn."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import kafka.errors
from faust.types import TP

from headrace.heartbeats import Heartbeat, HeartbeatStore
from headrace.positions import PositionStore
from headrace.topics import Ends, Place, TopicWatch
from streams.failure import AWAY, Patience, end_process
from streams.progress import Progress
from streams.triggers import CountTrigger
from streams.watchdog import Watchdog

logger = logging.getLogger(__name__)


@dataclass
class Chores:
    """Each method is one turn of a chore."""

    app: Any
    topics: TopicWatch
    progress: Progress
    patience: Patience
    heartbeats: HeartbeatStore
    trigger: CountTrigger
    positions: PositionStore
    watchdog: Watchdog
    ends: Ends = field(default_factory=dict)
    """Of every partition, as the broker told last; without what it does not count yet."""
    address: str = ""
    """Where the worker tells how it is."""
    away: str | None = None
    """What could not be read when the worker last looked."""
    _stored: dict[Place, int] = field(default_factory=dict)
    _read: dict[Place, int] = field(default_factory=dict)
    """All workers' positions when this one last looked."""

    async def beat(self) -> None:
        """Tell Redis that this worker is well, and what it has done."""
        progress = self.progress
        heartbeat = Heartbeat(
            part="worker",
            name=f"{socket.gethostname()}-{os.getpid()}",
            pid=os.getpid(),
            at=time.time(),
            state=self.state,
            address=self.address,
            figures={
                "applied": progress.total("new"),
                "duplicates": progress.total("known"),
                "erased": progress.total("erased"),
                "dead_letters": progress.dead_letters,
                "items": progress.items,
                "lag": sum(self.lags.values()),
            },
        )
        try:
            await self.heartbeats.beat(heartbeat)
        except AWAY as exc:
            logger.warning("no heartbeat: %r", exc)

    async def fire_retrain(self) -> None:
        """Send a retrain event when one is due."""
        try:
            if await self.trigger.check():
                logger.info("a retrain event was sent")
        except AWAY as exc:
            logger.warning("the retrain trigger waits: %r", exc)

    async def store_positions(self) -> bool:
        """Store how far each partition is done with, for whoever begins there next.

        Return whether that could be done.
        """
        positions = dict(self.progress.positions)
        moved = {
            place: offset
            for place, offset in positions.items()
            if self._stored.get(place) != offset
        }
        try:
            await self.positions.advance(moved)
        except AWAY as exc:
            logger.warning("positions cannot be stored: %r", exc)
            return False
        self._stored |= moved
        return True

    def pass_over(self) -> None:
        """Move positions past what is no record, so that nobody waits for it."""
        consumer = self.app.consumer
        if not consumer.started:
            return
        for tp, reached in dict(consumer.reached).items():
            place = self.progress.place(tp.topic, tp.partition)
            if self.progress.positions.get(place, 0) >= reached.handed_over:
                self.progress.pass_over(place, reached.position)

    async def check_topics(self) -> None:
        """End the worker when a topic was made anew or has grown, or when it stands still."""
        try:
            changed, self.ends = await asyncio.to_thread(self.topics.look)
            self._read = await self.positions.read()
        except (kafka.errors.KafkaError, *AWAY) as exc:
            self.away = f"topics or positions cannot be read: {exc!r}"
            logger.warning(self.away)
            self.watchdog.excuse()
            return
        self.away = None
        if changed:
            end_process(f"{'; '.join(changed)}: the worker starts again and reads them as they are")
        if self.patience.waits_for is not None:
            self.watchdog.excuse()
            return
        self.pass_over()
        stall = self.watchdog.look(self._positions, self._answered_for())
        if stall is not None:
            end_process(f"{stall}: the worker starts again")

    @property
    def state(self) -> str:
        """How the worker fares, in a few words."""
        waits_for = self.patience.waits_for or self.away
        if waits_for is not None:
            return f"waiting: {waits_for}"
        return "running" if self.assignment else "waiting for partitions"

    @property
    def assignment(self) -> set[Place]:
        """The partitions that this worker reads."""
        consumer = self.app.consumer
        # Faust makes its consumer when it starts.
        assigned: set[TP] = consumer.assignment() if consumer.started else set()
        return {self.progress.place(tp.topic, tp.partition) for tp in assigned}

    @property
    def lags(self) -> Mapping[Place, int]:
        """How many records each partition that this worker reads has beyond its position."""
        positions = self._positions
        return {
            place: max(0, end - positions.get(place, 0))
            for place, end in self._known_ends().items()
        }

    @property
    def _positions(self) -> Mapping[Place, int]:
        """How far each partition is done with, as far as this worker knows.

        Its own is the newest of a partition that it reads; of one that it has lost another's is.
        """
        positions = dict(self._read)
        for place, offset in self.progress.positions.items():
            positions[place] = max(offset, positions.get(place, 0))
        return positions

    def _answered_for(self) -> Ends:
        """Return the ends of the partitions that must move: this worker's, or all if it has none.

        In a group with more workers than partitions one without any ends for nothing when another
        one stands still; in a group that lost its way nobody else would.
        """
        assigned = self.assignment
        return self._known_ends() if assigned else self.ends

    def _known_ends(self) -> Ends:
        """Return the ends of the assigned partitions, as the broker or the last fetch told."""
        return {
            place: max(self.ends.get(place, 0), self._high_water(place))
            for place in self.assignment
        }

    def _high_water(self, place: Place) -> int:
        # The embedded broker counts the newest batch as one record when it is asked for the end.
        name = self.progress.topics.name(place.topic)
        return self.app.consumer.highwater(TP(name, place.partition)) or 0
