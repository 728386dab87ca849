"""What becomes of a batch of records: sessions, counts, rules, the catalogue, or a dead letter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from headrace.catalog import CatalogStore, ItemChange, parse_item
from headrace.dead_letters import DeadLetters, Record
from headrace.errors import InvalidEvent, InvalidItem
from headrace.events import parse_event
from headrace.sessions import LoggedEvent, SessionStore
from headrace.topics import EVENT_TOPICS, Topics
from headrace.transitions import TransitionStore
from headrace.trending import TrendingStore
from streams.failure import wait_out

_Parsed = TypeVar("_Parsed")


@dataclass
class Progress:
    """What this worker has done since it started."""

    applied: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    items: int = 0
    processed: dict[tuple[str, int], int] = field(default_factory=dict)
    """By topic and partition, the offset after the last record that is done with."""

    def done(self, records: Sequence[Record]) -> None:
        """Note that these records are done with."""
        for record in records:
            self.processed[record.topic, record.partition] = record.offset + 1


class EventsAgent:
    """Applies events to their users' sessions, counts them, keeps their transitions, each once."""

    def __init__(
        self,
        topics: Topics,
        topic_ids: Mapping[str, str],
        sessions: SessionStore,
        trending: TrendingStore,
        transitions: TransitionStore,
        dead_letters: DeadLetters,
        progress: Progress,
    ) -> None:
        self._topics = topics
        self._topic_ids = topic_ids
        self._sessions = sessions
        self._trending = trending
        self._transitions = transitions
        self._dead_letters = dead_letters
        self._progress = progress

    async def __call__(self, records: Sequence[Record]) -> None:
        """Do with a batch what is to be done; after that it may be committed.

        Every step may be repeated: after a failure half-way the whole batch is delivered again.
        """
        events, wrong = _parse(records, self._parse)
        await _bury(wrong, self._dead_letters)
        if events:
            await wait_out(lambda: self._apply(events), "events cannot be applied")
        self._progress.dead_letters += len(wrong)
        self._progress.done(records)

    async def _apply(self, events: Sequence[LoggedEvent]) -> None:
        applied = await self._sessions.apply(events)
        await self._trending.apply(events)
        await self._transitions.apply(events)
        self._progress.applied += applied
        self._progress.duplicates += len(events) - applied

    def _parse(self, record: Record) -> LoggedEvent:
        topic = self._topics.plain(record.topic)
        event = parse_event(record.value, EVENT_TOPICS[topic], received_at=record.timestamp)
        return LoggedEvent(
            event, topic, self._topic_ids[record.topic], record.partition, record.offset
        )


class ItemsAgent:
    """Brings the catalogue in Redis level with the `items` topic."""

    def __init__(
        self,
        topic_ids: Mapping[str, str],
        catalog: CatalogStore,
        dead_letters: DeadLetters,
        progress: Progress,
    ) -> None:
        self._topic_ids = topic_ids
        self._catalog = catalog
        self._dead_letters = dead_letters
        self._progress = progress

    async def __call__(self, records: Sequence[Record]) -> None:
        """Do with a batch what is to be done; after that it may be committed."""
        changes, wrong = _parse(records, self._parse)
        await _bury(wrong, self._dead_letters)
        if changes:
            await wait_out(lambda: self._catalog.apply(changes), "items cannot be stored")
        self._progress.items += len(changes)
        self._progress.dead_letters += len(wrong)
        self._progress.done(records)

    def _parse(self, record: Record) -> ItemChange:
        try:
            key = (record.key or b"").decode()
        except UnicodeDecodeError as exc:
            raise InvalidItem("", f"the key is not UTF-8: {exc}") from exc
        if not key:
            raise InvalidItem("", "the record has no key; the key of an item is its item_id")
        item = parse_item(record.value) if record.value is not None else None
        if item is not None and item.item_id != key:
            raise InvalidItem("item_id", f"{item.item_id!r} differs from the record's key {key!r}")
        topic_id = self._topic_ids[record.topic]
        return ItemChange(key, item, topic_id, record.partition, record.offset)


def _parse(
    records: Sequence[Record], parse: Callable[[Record], _Parsed]
) -> tuple[list[_Parsed], list[tuple[Record, InvalidEvent]]]:
    parsed: list[_Parsed] = []
    wrong: list[tuple[Record, InvalidEvent]] = []
    for record in records:
        try:
            parsed.append(parse(record))
        except InvalidEvent as error:
            wrong.append((record, error))
    return parsed, wrong


async def _bury(wrong: Sequence[tuple[Record, InvalidEvent]], dead_letters: DeadLetters) -> None:
    for record, error in wrong:
        await wait_out(partial(dead_letters.send, record, error), "a dead letter cannot be sent")
