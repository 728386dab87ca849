"""What went wrong, for the one who looks at a page: what is broken, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from headrace_client import (
    Ended,
    Forbidden,
    HeadraceError,
    Refused,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
)


@dataclass(frozen=True)
class Trouble:
    """A fault in two sentences."""

    what: str
    cure: str


_AGAIN = "It is asked again by itself."


def is_final(error: Exception) -> bool:
    """Return whether the same call would fail again: it is the call that is wrong."""
    return isinstance(error, Refused) and error.status < 500 and error.status != 429


def trouble_of(error: HeadraceError, url: str) -> Trouble:
    """Return what a failed call to the server at `url` means."""
    if isinstance(error, Unreachable):
        return Trouble(
            f"The server at {url} does not answer.",
            "Look at it with `headrace status`, start it with `headrace up`. "
            "This page goes on by itself once it answers.",
        )
    if isinstance(error, Unauthorized):
        return Trouble(
            f"The server does not take this key any more: {error.problem.detail}",
            "Leave, and come in with another key: `headrace keys create` makes one.",
        )
    if isinstance(error, Forbidden):
        return Trouble(error.problem.detail, "Leave, and come in with a key that has the scope.")
    if isinstance(error, Unavailable):
        return Trouble(error.problem.detail, _AGAIN)
    if isinstance(error, TooManyRequests):
        return Trouble(error.problem.detail, _AGAIN)
    if isinstance(error, Refused):
        return Trouble(error.problem.detail, "")
    if isinstance(error, Ended):
        return Trouble(f"The server has ended the stream of lists: {error}", _AGAIN)
    return Trouble(str(error), f"See whether a server of this version of Headrace is at {url}.")


def trouble_of_fault(error: Exception) -> Trouble:
    """Return what a fault of the console's own means."""
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    return Trouble(
        f"A part of this page has failed: {said}.",
        "It is tried again by itself. The console's log says more.",
    )
