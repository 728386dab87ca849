"""Dead letters read back: each once, from where, why, and whether it was sent again."""

from __future__ import annotations

import hashlib
import heapq
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from msgspec import Struct

from headrace.dead_letters import NO_KEY, RESENT, TOPIC_ID, users_of
from headrace.erasure_log import read_erasures
from headrace.erasures import Erasures
from headrace.errors import HeadraceError
from headrace.kafka_clients import client_options
from headrace.kafka_reader import unreachable
from headrace.settings import Settings
from headrace.topic_figures import read_extents
from headrace.topics import BOOTSTRAP_MS, DEAD_LETTERS, ITEMS, MODEL_VERSIONS, RETRAIN, Topics

_PATIENCE_S = 30.0
_OF_NO_USER = frozenset({ITEMS, RETRAIN, MODEL_VERSIONS})
"""Topics whose key is no user's, though it may read like one's."""
_ID = re.compile(r"[0-9]{1,9}-[0-9]{1,18}")


class Letter(Struct, frozen=True):
    """A dead letter."""

    id: str
    """`<partition>-<offset>` in the topic of dead letters."""
    buried_at: float
    """Unix seconds."""
    topic: str
    """Where the record came from, as the broker names it; "" when nothing says so."""
    topic_id: str
    partition: int
    offset: int
    field: str
    """The field at fault, or "" when the whole record is."""
    reason: str
    key: bytes | None
    value: bytes | None

    @property
    def origin(self) -> tuple[str, str, int, int, bytes]:
        """What is the same when a worker has buried a record twice.

        A topic made anew has the same offsets once more; where its id is not known the contents
        tell, as far as they can.
        """
        contents = hashlib.sha256()
        for part in (self.key, self.value):
            contents.update(b"-" if part is None else b"+%d:%b" % (len(part), part))
        return self.topic, self.topic_id, self.partition, self.offset, contents.digest()


class Mark(Struct, frozen=True):
    """That a letter was sent again."""

    letter_id: str


class Found(Struct, frozen=True):
    """Letters that were looked for."""

    letters: list[Letter]
    """The newest ones, newest first."""
    count: int
    """How many there are in all."""
    older: int
    """How many of these are older than those in `letters`."""
    resent: frozenset[str]
    """Ids of those, among all, that were sent again."""


def letters(settings: Settings) -> Generator[Letter | Mark, None, None]:
    """Yield the records of the topic of dead letters, but for those of erased users. Blocks.

    Every command that shows or sends letters reads them here. Partitions are assigned, so no group
    is joined. Raises `HeadraceError` when Kafka cannot be read.
    """
    erasures, topics = read_erasures(settings), Topics(settings)
    for record in _records(settings):
        headers = {name: value or b"" for name, value in record.headers}
        if RESENT in headers:
            yield Mark(_text(headers, RESENT))
            continue
        letter = Letter(
            id=f"{record.partition}-{record.offset}",
            buried_at=record.timestamp / 1000,
            topic=_text(headers, "topic"),
            topic_id=_text(headers, TOPIC_ID),
            partition=_number(headers, "partition"),
            offset=_number(headers, "offset"),
            field=_text(headers, "field"),
            reason=_text(headers, "reason"),
            key=None if NO_KEY in headers else record.key,
            value=record.value,
        )
        users = _users(letter, topics)
        if not any(is_erased(letter, user_id, erasures, topics) for user_id in users):
            yield letter


def _users(letter: Letter, topics: Topics) -> set[str]:
    """Return whose the letter may be."""
    if topics.plain(letter.topic) in _OF_NO_USER:
        return set()
    return users_of(letter.key, letter.value)


def is_erased(letter: Letter, user_id: str, erasures: Erasures, topics: Topics) -> bool:
    """Return whether the letter's record, were it this user's, was there when that was erased."""
    return erasures.covers(
        user_id,
        topics.plain(letter.topic),
        letter.topic_id,
        letter.partition,
        letter.offset,
        written_at=letter.buried_at,
    )


def find_letters(
    read: Iterator[Letter | Mark],
    wanted: Callable[[Letter], bool],
    limit: int | None = None,
    before: tuple[float, str] | None = None,
) -> Found:
    """Return the letters that are wanted, the newest `limit` of them.

    `before`: only those that come after the letter with this `buried_at` and id, newest first.
    One that was buried twice is there once, as it was buried first, with the id that it got then;
    `wanted` is asked of it under each of its ids.
    """
    ids: dict[tuple[str, str, int, int, bytes], str] = {}
    first_id: dict[str, str] = {}
    marks: set[str] = set()
    kept: list[tuple[float, str, Letter]] = []
    taken: set[str] = set()
    fitting = 0
    for record in read:
        if isinstance(record, Mark):
            marks.add(record.letter_id)
            continue
        first = ids.setdefault(record.origin, record.id)
        first_id[record.id] = first
        if first in taken or not wanted(record):
            continue
        taken.add(first)
        entry = (record.buried_at, first, _named(record, first))
        if before is not None and entry[:2] >= before:
            continue
        fitting += 1
        if limit is None or len(kept) < limit:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)
    resent = frozenset(first_id.get(mark, mark) for mark in marks)
    newest_first = [letter for _, _, letter in sorted(kept, key=lambda e: e[:2], reverse=True)]
    return Found(newest_first, len(taken), fitting - len(newest_first), resent)


def check_id(text: str) -> str:
    """Return the id of a letter. Raises `HeadraceError` for what is none."""
    if not _ID.fullmatch(text):
        raise HeadraceError(
            f"{text!r} is not the id of a dead letter; `headrace dead-letters list` shows them."
        )
    return text


def _named(letter: Letter, letter_id: str) -> Letter:
    return letter if letter.id == letter_id else msgspec.structs.replace(letter, id=letter_id)


def _records(settings: Settings) -> Generator[Any, None, None]:
    topic = Topics(settings).name(DEAD_LETTERS)
    try:
        consumer = KafkaConsumer(
            **client_options(settings),
            enable_auto_commit=False,
            bootstrap_timeout_ms=BOOTSTRAP_MS,
        )
    except (KafkaError, OSError, ValueError) as exc:
        raise unreachable(settings, exc) from exc
    with closing(consumer):
        try:
            yield from _to_the_end(consumer, topic)
        except (KafkaError, OSError) as exc:
            raise unreachable(settings, exc) from exc


def _to_the_end(consumer: KafkaConsumer, topic: str) -> Generator[Any, None, None]:
    """Yield what the topic holds now, partition by partition in order."""
    places = [
        TopicPartition(topic, number)
        for number in sorted(consumer.partitions_for_topic(topic) or ())
    ]
    extents = read_extents(consumer, places)
    ends = {at: extent.end for at, extent in extents.items() if extent.end > extent.begin}
    if not ends:
        return
    consumer.assign(list(ends))
    for at in ends:
        consumer.seek(at, extents[at].begin)
    heard_at = time.monotonic()
    left = set(ends)
    while left:
        polled = consumer.poll(timeout_ms=200)
        for at, records in polled.items():
            yield from (record for record in records if record.offset < ends[at])
        if polled:
            heard_at = time.monotonic()
        elif time.monotonic() - heard_at > _PATIENCE_S:
            raise HeadraceError(
                f"Kafka has sent nothing for {_PATIENCE_S:.0f} s, and {topic} is not read to its "
                "end. Is the broker well?"
            )
        for at in list(left):
            if consumer.position(at) >= ends[at]:
                left.discard(at)
                consumer.pause(at)


def _text(headers: Mapping[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode(errors="backslashreplace")


def _number(headers: Mapping[str, bytes], name: str) -> int:
    text = _text(headers, name)
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else -1
