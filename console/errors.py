"""What went wrong, for the one who looks at a page: what is broken, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from headrace_client import (
    Ended,
    Forbidden,
    HeadraceError,
    Refused,
    Unauthorized,
    Unreachable,
)

ASKED_AGAIN = "It is asked again by itself."
"""What comes of a question that a page repeats."""
DO_IT_AGAIN = "Nothing was changed; do it again."
_UNSURE = "It may have been done: look before you do it again."


@dataclass(frozen=True)
class Trouble:
    """A fault in two sentences."""

    what: str
    cure: str

    @property
    def words(self) -> str:
        """Both sentences."""
        return f"{self.what} {self.cure}".strip()


def is_final(error: Exception) -> bool:
    """Return whether the same call would fail again: it is the call that is wrong."""
    return isinstance(error, Refused) and error.status < 500 and error.status != 429


def after_deed(error: HeadraceError) -> str:
    """Return what is to be done after a call that was to change something, and failed."""
    if isinstance(error, Unreachable):
        return DO_IT_AGAIN if error.not_sent else _UNSURE
    # Whoever passes a call on may have done so before it gave up.
    return _UNSURE if isinstance(error, Refused) and error.status >= 500 else DO_IT_AGAIN


def trouble_of(error: HeadraceError, url: str, then: str = ASKED_AGAIN) -> Trouble:
    """Return what a failed call to the server at `url` means.

    `then`: what is to be done when it is for now that it fails.
    """
    if isinstance(error, Unreachable):
        return Trouble(
            f"The server at {url} does not answer.",
            f"Look at it with `headrace status`, start it with `headrace up`. {then}",
        )
    if isinstance(error, Unauthorized):
        return Trouble(
            f"The server does not take this key any more: {_said(error, url)}",
            "Leave, and come in with another key: `headrace keys create` makes one.",
        )
    if isinstance(error, Forbidden):
        return Trouble(_said(error, url), "Leave, and come in with a key that has the scope.")
    if isinstance(error, Refused):
        if is_final(error):
            return Trouble(_said(error, url), "")
        look = "`headrace status` says what runs. " if error.status >= 500 else ""
        return Trouble(_said(error, url), look + then)
    if isinstance(error, Ended):
        return Trouble(f"The server has ended the stream of lists: {error}", then)
    return Trouble(str(error), f"See whether a server of this version of Headrace is at {url}.")


def _said(error: Refused, url: str) -> str:
    """Return what the server said; a proxy before it says nothing but a status."""
    answer = f"{error.status} {error.problem.title}".strip()
    return error.problem.detail or f"What answers at {url} says {answer}."


def trouble_of_fault(error: Exception) -> Trouble:
    """Return what a fault of the console's own means."""
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    return Trouble(
        f"A part of this page has failed: {said}.",
        "It is tried again by itself. The console's log says more.",
    )
