"""What a worker does about erasures while it runs: it hears of them, and forgets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from headrace.erasure_log import ErasureLog, follow_erasures
from headrace.erasures import Erasure
from headrace.redis_eraser import RedisEraser
from headrace.sessions import ERASED_S
from headrace.settings import Settings
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
        in_hand: Sequence[Turn],
        eraser: RedisEraser,
        patience: Patience,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`in_hand` are held while a batch is applied; `clock` gives Unix seconds."""
        self._settings = settings
        self._log = log
        self._in_hand = in_hand
        self._eraser = eraser
        self._patience = patience
        self._clock = clock

    async def run(self) -> None:
        """Carry out what is new, and what may not have been carried out, until cancelled."""
        try:
            for erasure in list(self._log.erasures.by_user.values()):
                if self._clock() - erasure.at < ERASED_S:
                    await self.carry_out(erasure)
            await follow_erasures(self._settings, self._log, self.carry_out)
        except Exception:
            logger.exception("erasures cannot be followed, in a way that nobody foresaw")
            end_process("the worker ends: it must not apply events of erased users")

    async def carry_out(self, erasure: Erasure) -> None:
        """Erase from Redis what this worker or another may have written of the user."""
        # A batch that was begun before the erasure was known may yet write.
        for turn in self._in_hand:
            async with turn:
                pass
        await self._patience.wait_out(
            lambda: self._eraser.erase(erasure), "an erasure cannot be carried out"
        )
