"""Erasures: which events of an erased user count no more, wherever they are read from.

`headrace.erasure_log` reads them from their topic, whose key is the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from headrace.errors import InvalidErasure
from headrace.events import UserId, decode

_Offset = Annotated[int, Meta(ge=0, le=2**53)]
_Partition = Annotated[str, Meta(pattern="^[0-9]{1,9}(?!\\n)$")]


class Erasure(Struct, frozen=True, kw_only=True):
    """A user was erased: what stood in the log by then counts no more, what came later does."""

    user_id: UserId
    at: Annotated[float, Meta(ge=0)]
    """Unix seconds."""
    topic_ids: dict[str, str]
    """By topic, without its prefix, the topic's id by then."""
    through: dict[str, dict[_Partition, _Offset]]
    """By topic and partition, how far it had come: an offset, exclusive."""

    def covers(
        self, topic: str, topic_id: str, partition: int, offset: int, *, written_at: float
    ) -> bool:
        """Return whether the record at this place in the log was there by then.

        Of a topic that was made anew before or since, its time tells: `written_at`, Unix seconds.
        """
        if self.topic_ids.get(topic) == topic_id:
            return offset < self.end(topic, partition)
        return written_at <= self.at

    def with_(self, other: Erasure) -> Erasure:
        """Return the one that covers what either does, of the same user.

        Of a topic that was made anew between the two, the later one tells how far it had come.
        """
        early, late = sorted((self, other), key=lambda each: each.at)
        through = dict(late.through)
        for topic, ends in early.through.items():
            if early.topic_ids[topic] == late.topic_ids.get(topic, early.topic_ids[topic]):
                later = late.through.get(topic, {})
                numbers = ends.keys() | later.keys()
                through[topic] = {
                    number: max(ends.get(number, 0), later.get(number, 0)) for number in numbers
                }
        topic_ids = {**early.topic_ids, **late.topic_ids}
        return msgspec.structs.replace(late, topic_ids=topic_ids, through=through)

    def end(self, topic: str, partition: int) -> int:
        """Return how far the partition had come, exclusive; 0 for one that there was not."""
        return self.through.get(topic, {}).get(str(partition), 0)


_decoder = msgspec.json.Decoder(Erasure)


def parse_erasure(key: bytes | None, value: bytes) -> Erasure:
    """Read an erasure from a record of the topic. Raises `InvalidErasure`."""
    erasure = decode_erasure(value)
    if key != erasure.user_id.encode():
        # Neither is named: it may be told to a log, which should not say who was erased.
        raise InvalidErasure("user_id", "is not the record's key")
    return erasure


def decode_erasure(value: bytes) -> Erasure:
    """Read an erasure from a record's value alone. Raises `InvalidErasure`."""
    erasure: Erasure = decode(_decoder, value, InvalidErasure)
    for topic in erasure.through:
        if topic not in erasure.topic_ids:
            raise InvalidErasure("topic_ids", f"has no id of {topic!r}, which stands in `through`")
    return erasure


class Erasures:
    """The erasures known so far, those of each user as one."""

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

    @property
    def digest(self) -> str:
        """By which it is told whether another erasure has come since; "" for none."""
        if not self._of_user:
            return ""
        known = [self._of_user[user_id] for user_id in sorted(self._of_user)]
        return sha256(msgspec.json.encode(known)).hexdigest()

    def add(self, erasure: Erasure) -> None:
        """Take an erasure; of those of one user what any covers is covered.

        In which order they come does not matter: once the topic has grown a user's older ones
        stand in another partition than the newer.
        """
        known = self._of_user.get(erasure.user_id)
        self._of_user[erasure.user_id] = erasure if known is None else known.with_(erasure)

    def drop(self, user_id: str) -> None:
        """Take the user's erasure back, if there is one."""
        self._of_user.pop(user_id, None)

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
