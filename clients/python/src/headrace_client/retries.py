"""When a call is repeated, and after what pause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenacity import (
    RetryCallState,
    retry_if_exception,
    retry_if_result,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential_jitter,
)

from headrace_client.errors import TooManyRequests, Unavailable, Unreachable


@dataclass(frozen=True)
class Retries:
    """How a call is repeated that met a fault which may pass.

    Pauses double, with some chance in them, and are never shorter than the server's `Retry-After`.
    A call that may not be done twice is repeated only when it has surely not been done.
    """

    attempts: int = 6
    """At the most, the first one among them; 1: never repeat."""
    first_s: float = 0.1
    """The first pause, in seconds."""
    longest_s: float = 5.0
    """The longest pause, unless the server asks for a longer one."""
    within_s: float = 30.0
    """No further attempt begins later than so many seconds after the first."""

    def options(self, *, safe: bool) -> dict[str, Any]:
        """Return what tenacity repeats a call with; `safe`: it may be done twice."""
        return {
            **self._pauses(),
            "retry": retry_if_exception(lambda error: _may_pass(error, safe=safe)),
        }

    def options_until(self, done: Callable[[Any], bool]) -> dict[str, Any]:
        """Return what tenacity repeats with until its result is `done`, or it gives up."""
        return {
            **self._pauses(),
            "retry": retry_if_result(lambda result: not done(result)),
            "retry_error_callback": lambda state: state.outcome.result(),
        }

    def _pauses(self) -> dict[str, Any]:
        grow = wait_exponential_jitter(self.first_s, self.longest_s, jitter=self.first_s)

        def pause_s(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return max(grow(state), getattr(error, "retry_after_s", None) or 0.0)

        return {
            "wait": pause_s,
            "stop": stop_after_attempt(self.attempts) | stop_before_delay(self.within_s),
            "reraise": True,
        }


def _may_pass(error: BaseException, *, safe: bool) -> bool:
    if isinstance(error, TooManyRequests):
        return True
    if isinstance(error, Unreachable):
        return safe or error.not_sent
    return safe and isinstance(error, Unavailable)
