"""Erasures: which events of an erased user count no more, wherever they are read from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from headrace.events import UserId


class Erasure(Struct, frozen=True, kw_only=True):
    """A user was erased: what stood in the log by then counts no more, what came later does."""

    user_id: UserId
    at: float
    """Unix seconds."""
    topic_ids: dict[str, str]
    """By topic, without its prefix, the topic's id by then."""
    through: dict[str, dict[str, int]]
    """By topic and partition, how far it had come: an offset, exclusive."""

    def covers(
        self, topic: str, topic_id: str, partition: int, offset: int, *, written_at: float
    ) -> bool:
        """Return whether the record at this place in the log was there by then.

        Of a topic that was made anew before or since, its time tells: `written_at`, Unix seconds.
        """
        if self.topic_ids.get(topic) == topic_id:
            return offset < self.through.get(topic, {}).get(str(partition), 0)
        return written_at <= self.at


class Erasures:
    """The erasures known so far, the newest of each user."""

    def __init__(self, erasures: Iterable[Erasure] = ()) -> None:
        self._of_user: dict[str, Erasure] = {}
        for erasure in erasures:
            self.add(erasure)

    def __bool__(self) -> bool:
        return bool(self._of_user)

    @property
    def by_user(self) -> Mapping[str, Erasure]:
        """The erasures by user."""
        return self._of_user

    def add(self, erasure: Erasure) -> None:
        """Take an erasure; of one user the newest counts."""
        known = self._of_user.get(erasure.user_id)
        if known is None or known.at <= erasure.at:
            self._of_user[erasure.user_id] = erasure

    def covers(
        self,
        user_id: str,
        topic: str,
        topic_id: str,
        partition: int,
        offset: int,
        *,
        written_at: float,
    ) -> bool:
        """Return whether the user was erased after this record was there; see `Erasure.covers`."""
        erasure = self._of_user.get(user_id)
        return erasure is not None and erasure.covers(
            topic, topic_id, partition, offset, written_at=written_at
        )
