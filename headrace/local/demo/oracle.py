"""What the sessions must be: a plain fold of the file, compared with what Redis holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from headrace.events import Rating
from headrace.sessions import Interaction, Session


class Expected(Struct):
    """A user's session dictionary and count of events, computed straight from the file."""

    interactions: dict[str, Interaction]
    """Oldest first."""
    applied: int


class Difference(Struct, frozen=True):
    """A user whose session is not what the stream makes it."""

    user_id: str
    reason: str


def fold(ratings: Iterable[Rating], limit: int) -> dict[str, Expected]:
    """Return each user's session after these ratings, given in the order they were sent.

    The newest event of an item wins, among equal timestamps the one sent last; the newest `limit`
    interactions are kept.
    """
    users: dict[str, list[Rating]] = {}
    for rating in ratings:
        users.setdefault(rating.user_id, []).append(rating)
    return {
        user_id: Expected(interactions=_newest(of_user, limit), applied=len(of_user))
        for user_id, of_user in users.items()
    }


def differences(
    expected: Mapping[str, Expected], sessions: Mapping[str, Session]
) -> list[Difference]:
    """Return the users whose sessions are not what they must be, each with the reason."""
    found = []
    for user_id in sorted(expected.keys() | sessions.keys()):
        must = expected.get(user_id, Expected(interactions={}, applied=0))
        reason = _difference(must, sessions.get(user_id, Session()))
        if reason:
            found.append(Difference(user_id, reason))
    return found


def _newest(ratings: Iterable[Rating], limit: int) -> dict[str, Interaction]:
    interactions: dict[str, Interaction] = {}
    for rating in sorted(ratings, key=lambda rating: rating.timestamp):
        interactions.pop(rating.item_id, None)
        interactions[rating.item_id] = Interaction(rating.timestamp, rating.rating, "rating")
    return dict(list(interactions.items())[-limit:])


def _difference(expected: Expected, session: Session) -> str:
    """Return how the session differs, or "" when it does not."""
    if session.applied != expected.applied:
        return f"{session.applied} events applied, {expected.applied} sent"
    actual = session.interactions()
    if missing := [item_id for item_id in expected.interactions if item_id not in actual]:
        return f"{len(missing)} interactions are missing, item {missing[0]} the first"
    if extra := [item_id for item_id in actual if item_id not in expected.interactions]:
        return f"{len(extra)} interactions too many, item {extra[0]} the first"
    for item_id, interaction in expected.interactions.items():
        if actual[item_id] != interaction:
            return f"item {item_id} is {actual[item_id]}, it must be {interaction}"
    if list(actual) != list(expected.interactions):
        return "the interactions stand in another order"
    return ""
