"""How many requests a server takes in hand: no more than it answers soon; others hear so at once.

A server that is asked more than it can do, and takes everything, keeps everybody waiting ever
longer. So there is a limit to the requests in hand, and it follows the server's own pace, as CoDel
does for packets (Nichols & Jacobson, "Controlling Queue Delay", 2012): when even the quickest
request of a tenth of a second took longer than the target, a queue stands, and the limit falls;
while it does not, the limit rises again, so that a machine that is busy with something else now and
then takes nothing away for good. A burst that is worked off within a tenth of a second is taken
whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.settings import ServingSettings
from serving.problems import Problem, respond

_WINDOW_S = 0.1
_FALL, _RISE = 0.7, 1.1
"""By which the limit is multiplied at the end of a window."""
_RETRY_AFTER_S = 1
_ASIDE_S = "headrace.aside_s"
"""In a request's scope: for how long it waited for something else than this server."""


class Admission:
    """The requests in hand, and how many there may be."""

    def __init__(
        self, settings: ServingSettings, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """`clock` tells seconds."""
        self._target_s = settings.admission_target_ms / 1000
        self._least, self._most = settings.admission_least, settings.admission_most
        self._clock = clock
        self._limit = float(self._most)
        self._window_ends = 0.0
        self._quickest_s = math.inf
        self._peak = 0
        self.in_hand = 0
        self.refused = 0

    @property
    def limit(self) -> int:
        """How many requests may be in hand now."""
        return int(self._limit)

    def enter(self) -> bool:
        """Take a request in hand, or return False: it must not be."""
        if self._target_s and self.in_hand >= self.limit:
            self.refused += 1
            return False
        self.in_hand += 1
        self._peak = max(self._peak, self.in_hand)
        return True

    def leave(self, seconds: float) -> None:
        """Note that a request is done, and how long it was in hand."""
        self.in_hand -= 1
        self._quickest_s = min(self._quickest_s, seconds)
        now = self._clock()
        if now >= self._window_ends:
            self._settle()
            self._window_ends = now + _WINDOW_S

    @contextmanager
    def aside(self, scope: Scope) -> Iterator[None]:
        """Count this scope's request, until the block ends, as one that is not in hand."""
        began = self._clock()
        self.in_hand -= 1
        try:
            yield
        finally:
            self.in_hand += 1
            scope[_ASIDE_S] = scope.get(_ASIDE_S, 0.0) + self._clock() - began

    def _settle(self) -> None:
        """Set the limit for the next window by what was seen in the last one."""
        slow = self._quickest_s > self._target_s
        # One that is slow by itself is no queue.
        if slow and self._peak > self._least:
            self._limit = max(float(self._least), self._limit * _FALL)
        elif not slow:
            self._limit = min(float(self._most), self._limit * _RISE)
        self._quickest_s, self._peak = math.inf, self.in_hand


class Admitted:
    """Lets a request through to a route, or answers 503 before anything is done for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        admission: Admission = scope["app"].state.services.admission
        if not admission.enter():
            # Answered here: an error that travels up is logged, which takes as long as an answer.
            await _REFUSAL(scope, receive, send)
            return
        began = time.perf_counter()
        try:
            await self._app(scope, receive, send)
        finally:
            admission.leave(time.perf_counter() - began - scope.get(_ASIDE_S, 0.0))


_REFUSAL = respond(
    Problem(
        503,
        "This server has as many requests in hand as it can answer in time; try again.",
        retry_after_s=_RETRY_AFTER_S,
    )
)
