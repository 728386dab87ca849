"""What a worker does about erasures while it runs: it hears of them, and forgets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from headrace.erasure_log import ErasureLog, follow_erasures
from headrace.erasures import Erasure
from headrace.positions import PositionStore
from headrace.redis_eraser import RedisEraser
from headrace.sessions import ERASED_S
from headrace.settings import Settings
from headrace.topics import ERASURES, Place
from streams.failure import Patience, end_process
from streams.turns import Turn

logger = logging.getLogger(__name__)


class ErasureFollower:
    """Carries erasures out in Redis, which whoever wrote them may have failed to do.

    So does every worker: one that had events in hand may have written after another had forgotten.
    """

    def __init__(
        self,
        settings: Settings,
        log: ErasureLog,
        topic_id: str,
        in_hand: Sequence[Turn],
        eraser: RedisEraser,
        done: PositionStore,
        patience: Patience,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`topic_id`: of the topic of erasures; `in_hand` are held while a batch is applied.

        `done`: up to where workers have carried erasures out in Redis. `clock` gives Unix seconds.
        """
        self._settings = settings
        self._log = log
        self._topic_id = topic_id
        self._in_hand = in_hand
        self._eraser = eraser
        self._done = done
        self._patience = patience
        self._clock = clock

    async def run(self) -> None:
        """Carry out what is new, and what may not have been carried out, until cancelled."""
        try:
            # No batch has to be waited for: these were known before there was one.
            await self._erase(await self._left())
            await follow_erasures(self._settings, self._log, self.carry_out)
        except Exception:
            logger.exception("erasures cannot be followed, in a way that nobody foresaw")
            end_process("the worker ends: it must not apply events of erased users")

    async def carry_out(self, erasures: Sequence[Erasure]) -> None:
        """Erase from Redis what this worker or another may have written of the users."""
        # A batch that was begun before the erasures were known may yet write.
        for turn in self._in_hand:
            async with turn:
                pass
        await self._erase(erasures)

    async def _left(self) -> list[Erasure]:
        """Return what nobody may have carried out, and of whom one that died may have written."""
        places = await self._patience.wait_out(self._done.read, "erasures cannot be carried out")
        done = {
            place.partition: offset
            for place, offset in places.items()
            if place.topic_id == self._topic_id
        }
        # A Redis without any position is new or has lost all: there is nobody to erase in it.
        beyond = self._log.beyond(done) if places else []
        late = [
            erasure
            for erasure in self._log.erasures.by_user.values()
            if self._clock() - erasure.at < ERASED_S
        ]
        return list({each.user_id: each for each in (*beyond, *late)}.values())

    async def _erase(self, erasures: Sequence[Erasure]) -> None:
        for erasure in erasures:
            await self._patience.wait_out(
                partial(self._eraser.erase, erasure), "an erasure cannot be carried out"
            )
        reached = {
            Place(ERASURES, self._topic_id, partition): offset
            for partition, offset in self._log.positions.items()
        }
        await self._patience.wait_out(
            partial(self._done.advance, reached), "erasures cannot be carried out"
        )
