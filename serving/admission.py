"""How many requests a server takes in hand: no more than it answers soon; others hear so at once.

A server that is asked more than it can do, and takes everything, keeps everybody waiting ever
longer. So there is a limit to the requests in hand, and it follows the server's own pace. What
tells that a queue stands is the quickest request of a tenth of a second, as for packets in CoDel
(Nichols & Jacobson, "Controlling Queue Delay", 2012): a burst that is worked off by then is taken
whole.

- Slower than the target: the limit falls by and by, and while it is quicker again it rises, so that
  a machine that is busy with something else now and then takes nothing away for good.
- Much slower than it is on this server at other times, with many in hand all along, although the
  server had a core to itself and used it up: this is more than it can do. At once no more are taken
  than it can answer soon, by Little's law: as many as are answered in the time that one may take.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.settings import ServingSettings
from serving.problems import Problem, respond

_WINDOW_S = 0.1
_FALL, _RISE = 0.7, 1.1
"""By which the limit is multiplied at the end of a window."""
_MOST_RISES = 50
"""Windows made up for at once after a time without requests."""
_SLOWER = 4.0
"""Times the usual time of a quickest request that it takes where a queue stands, ..."""
_SOON_S = 0.005
"""... and that it takes at the least."""
_USED_UP = 0.6
"""Share of a window in which the event loop's thread had the processor: there is no time left."""
_IN_A_ROW = 2
"""Windows for which that lasts: what came together during a short stall is worked off by then."""
_FEW = 8
"""Requests that are always taken: answered together they take little longer than one."""
_FORGETTING = 1.01
"""By which the usual time grows in a window in which nothing was as quick."""
_RETRY_AFTER_S = 1
_ASIDE_S = "headrace.aside_s"
"""In a request's scope: for how long it waited for something else than this server."""


class Admission:
    """The requests in hand, and how many there may be."""

    def __init__(
        self,
        settings: ServingSettings,
        clock: Callable[[], float] = time.perf_counter,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        """`clock` tells seconds, `worked` those in which the calling thread had the processor."""
        self._target_s = settings.admission_target_ms / 1000
        self._least, self._most = settings.admission_least, settings.admission_most
        self._clock, self._worked = clock, worked
        self._limit = float(self._most)
        self._usual_s = math.inf
        """How long a quickest request takes here when no queue stands."""
        self._began, self._began_worked = clock(), worked()
        """Of the window."""
        self._quickest_s = math.inf
        self._done = self._peak = self._lowest = self._refused_before = 0
        self._in_a_row = 0
        """Windows, this one the last, in which the server was asked too much."""
        self.in_hand = 0
        self.refused = 0

    @property
    def limit(self) -> int:
        """How many requests may be in hand now."""
        return int(self._limit)

    @property
    def is_full(self) -> bool:
        """Whether no more may be taken in hand."""
        return bool(self._target_s) and self.in_hand >= self.limit

    def enter(self) -> bool:
        """Take a request in hand, or return False: it must not be."""
        if self.is_full:
            self.refused += 1
            return False
        self.in_hand += 1
        self._peak = max(self._peak, self.in_hand)
        return True

    def leave(self, seconds: float) -> None:
        """Note that a request is done, and how long it was in hand."""
        self._let_go()
        self._done += 1
        self._quickest_s = min(self._quickest_s, seconds)
        if self._clock() >= self._began + _WINDOW_S:
            self._settle()

    @contextmanager
    def aside(self, scope: Scope) -> Iterator[None]:
        """Count this scope's request, until the block ends, as one that is not in hand."""
        began = self._clock()
        self._let_go()
        try:
            yield
        finally:
            self.in_hand += 1
            scope[_ASIDE_S] = scope.get(_ASIDE_S, 0.0) + self._clock() - began

    def _let_go(self) -> None:
        self.in_hand -= 1
        self._lowest = min(self._lowest, self.in_hand)

    def _settle(self) -> None:
        """Set the limit for the next window by what was seen in this one."""
        now, worked, quickest_s = self._clock(), self._worked(), self._quickest_s
        lasted_s = now - self._began
        used_up = worked - self._began_worked > _USED_UP * lasted_s
        soon_s = max(_SOON_S, _SLOWER * self._usual_s)
        # Never fewer in hand than that, or others refused: they do not come and go, a queue stands.
        stands = self._lowest >= self._least or self.refused > self._refused_before
        too_much = stands and used_up and quickest_s > soon_s and self._peak > _FEW
        self._in_a_row = self._in_a_row + 1 if too_much else 0
        if self._in_a_row >= _IN_A_ROW:
            self._limit = max(float(_FEW), min(self._limit, self._done / lasted_s * soon_s))
        elif quickest_s <= self._target_s:
            rise = _RISE ** min(lasted_s / _WINDOW_S, _MOST_RISES)
            self._limit = min(float(self._most), self._limit * rise)
        elif self._peak > self._least:
            # One that is slow by itself is no queue.
            self._limit = min(self._limit, max(float(self._least), self._limit * _FALL))
        forgetting = 1.0 if used_up else _FORGETTING
        self._usual_s = min(quickest_s, self._usual_s * forgetting)
        self._began, self._began_worked = now, worked
        self._quickest_s, self._done = math.inf, 0
        self._peak = self._lowest = self.in_hand
        self._refused_before = self.refused


class Admitted:
    """Lets a request through to a route once its body is there, or answers 503."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        admission: Admission = scope["app"].state.services.admission
        # First: whoever sends slowly takes no one's place.
        receive = await _whole(receive)
        if not admission.enter():
            await _REFUSAL(scope, receive, send)
            return
        began = time.perf_counter()
        try:
            await self._app(scope, receive, send)
        finally:
            admission.leave(time.perf_counter() - began - scope.get(_ASIDE_S, 0.0))


async def _whole(receive: Receive) -> Receive:
    """Wait for the whole body; return a `receive` that gives it out."""
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    held = iter(messages)

    async def give() -> Message:
        return next(held, None) or await receive()

    return give


class RefusedEarly:
    """Answers 503 before a route is looked for, where `Admitted` would.

    A server that is asked many times what it can do spends most of its time on refusals: as much
    less of it is left for answers as they take.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[str, object]) -> None:
        """`routes`: by their paths, those that are admitted to."""
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope["path"] in self._routes:
            admission: Admission = scope["app"].state.services.admission
            if admission.is_full:
                admission.refused += 1
                # For the log and the metrics.
                scope["route"] = self._routes[scope["path"]]
                await _REFUSAL(scope, receive, send)
                return
        await self._app(scope, receive, send)


# Answered as it is: an error that travels up is logged, which takes as long as an answer.
_REFUSAL = respond(
    Problem(
        503,
        "This server has as many requests in hand as it can answer in time; try again.",
        retry_after_s=_RETRY_AFTER_S,
    )
)
