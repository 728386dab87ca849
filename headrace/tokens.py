"""Tokens: the place of an event in the log, by which a reader asks for what knows the event."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Annotated

from msgspec import Meta, Struct

from headrace.errors import InvalidToken
from headrace.topics import EVENT_TOPICS

_NUMBER = "(?:0|[1-9][0-9]{0,15})"
_PATTERN = f"^[A-Za-z0-9][A-Za-z0-9._-]*\\.{_NUMBER}\\.{_NUMBER}$"
_token = re.compile(_PATTERN)
# Described, not checked: of a type that is an array or a text with a pattern msgspec 0.22 frees
# memory twice when the process ends.
TokenText = Annotated[
    str, Meta(examples=["clicks.3.4711"], extra_json_schema={"pattern": _PATTERN})
]
"""`<topic>.<partition>.<offset>`; `Token.parse` checks it."""


class Token(Struct, frozen=True):
    """Where an event stands. As text it is `<topic>.<partition>.<offset>`: `clicks.3.4711`.

    Whoever sends to Kafka can make it from the producer's delivery report. The topic is named
    without its prefix; it is the one that workers read now, for a token does not outlive its topic.
    """

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}.{self.partition}.{self.offset}"

    @classmethod
    def parse(cls, text: str, topics: Collection[str] = tuple(EVENT_TOPICS)) -> Token:
        """Return the token of this text; the reverse of `str`.

        Raises `InvalidToken` for what is none, or not of one of these topics.
        """
        topic, _, place = text.rpartition(".")[0].rpartition(".")
        if _token.fullmatch(text) is None or topic not in topics:
            raise InvalidToken(
                "after",
                f"{text[:64]!r} is not a token; one is <topic>.<partition>.<offset>, such as "
                f"{next(iter(topics))}.3.4711, of the topics {', '.join(topics)}",
            )
        return cls(topic, int(place), int(text.rpartition(".")[2]))


def newest(tokens: Iterable[Token]) -> list[Token]:
    """Return of each partition the last token: who has seen that one has seen the others."""
    last: dict[tuple[str, int], Token] = {}
    for token in tokens:
        place = token.topic, token.partition
        if place not in last or token.offset > last[place].offset:
            last[place] = token
    return list(last.values())
