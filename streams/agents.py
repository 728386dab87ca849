"""What becomes of a batch of records: sessions, aggregates, the catalogue, or a dead letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from headrace.aggregates import AggregateStore
from headrace.catalog import CatalogStore, ItemChange, parse_item
from headrace.dead_letters import DeadLetters, Record, Wrong, users_of
from headrace.erasures import Erasures
from headrace.errors import InvalidEvent, InvalidItem
from headrace.evaluation import EvaluationStore
from headrace.events import parse_event
from headrace.sessions import LoggedEvent, Outcome, SessionStore
from headrace.topics import Topics
from streams.failure import Patience
from streams.figures import Popularity
from streams.progress import Progress
from streams.turns import Turn

_LETTERS_AT_ONCE = 100
"""Dead letters whose acknowledgements are waited for together: each may be a megabyte."""


class EventsAgent:
    """Applies events to their users' sessions and takes them into the aggregates, each once."""

    def __init__(
        self,
        topics: Topics,
        topic_ids: Mapping[str, str],
        sessions: SessionStore,
        evaluation: EvaluationStore,
        popularity: Popularity,
        aggregates: AggregateStore,
        erasures: Erasures,
        dead_letters: DeadLetters,
        progress: Progress,
        patience: Patience,
    ) -> None:
        self._topics = {name: topics.plain(name) for name in topics.events}
        self._kinds = topics.kinds
        self._topic_ids = topic_ids
        self._sessions = sessions
        self._evaluation = evaluation
        self._popularity = popularity
        self._aggregates = aggregates
        self._erasures = erasures
        self._dead_letters = dead_letters
        self._progress = progress
        self._patience = patience
        self._sessions_turn, self._scores_turn, self._aggregates_turn = Turn(), Turn(), Turn()
        self.in_hand = (self._sessions_turn, self._scores_turn, self._aggregates_turn)
        """Held while a batch is applied; who takes one after the other finds none begun before."""

    async def __call__(self, records: Sequence[Record]) -> None:
        """Do with a batch what is to be done; after that it may be committed.

        Every step may be repeated: after a failure half-way the whole batch is delivered again.
        The next ones may be begun meanwhile: they go through each step behind this one.
        """
        async with self._sessions_turn:
            events, wrong, erased = self._sorted(records)
            await bury(wrong, self._dead_letters, self._patience)
            outcomes: list[Outcome] = []
            if events:
                outcomes = await self._patience.wait_out(
                    lambda: self._sessions.apply(events), "events cannot be applied"
                )
            # Before the turn is over: nobody passes this batch.
            await self._scores_turn.begin()
        counted = [
            event for event, outcome in zip(events, outcomes, strict=True) if outcome != "erased"
        ]
        # First: a list is judged by an event before anything is learnt from it.
        if counted:
            await self._patience.wait_out(lambda: self._score(counted), "events cannot be scored")
        await self._aggregates_turn.begin()
        self._scores_turn.end()
        if counted:
            await self._patience.wait_out(
                lambda: self._aggregates.apply(counted), "events cannot be counted"
            )
        self._progress.applied(events, outcomes)
        self._popularity.met(events, outcomes)
        self._progress.buried(wrong)
        self._progress.erased(erased)
        self._progress.done(records)
        self._aggregates_turn.end()

    async def _score(self, events: Sequence[LoggedEvent]) -> None:
        self._progress.judged(await self._evaluation.score(events, self._popularity.item_ids))

    def _sorted(
        self, records: Sequence[Record]
    ) -> tuple[list[LoggedEvent], list[Wrong], list[Record]]:
        """Return the events, what is no event, and what is of users who were erased after it."""
        events: list[LoggedEvent] = []
        wrong: list[Wrong] = []
        erased: list[Record] = []
        for record in records:
            try:
                event = self._parse(record)
            except InvalidEvent as error:
                users = users_of(record.key, record.value)
                if any(self._is_erased(user_id, record) for user_id in users):
                    erased.append(record)
                else:
                    wrong.append((record, error))
                continue
            if self._is_erased(event.event.user_id, record):
                erased.append(record)
            else:
                events.append(event)
        return events, wrong, erased

    def _is_erased(self, user_id: str, record: Record) -> bool:
        return bool(self._erasures) and self._erasures.covers(
            user_id,
            self._topics[record.topic],
            self._topic_ids[record.topic],
            record.partition,
            record.offset,
            written_at=record.timestamp,
        )

    def _parse(self, record: Record) -> LoggedEvent:
        topic = self._topics[record.topic]
        event = parse_event(record.value, self._kinds[topic], received_at=record.timestamp)
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
        patience: Patience,
    ) -> None:
        self._topic_ids = topic_ids
        self._catalog = catalog
        self._dead_letters = dead_letters
        self._progress = progress
        self._patience = patience

    async def __call__(self, records: Sequence[Record]) -> None:
        """Do with a batch what is to be done; after that it may be committed."""
        changes: list[ItemChange] = []
        wrong: list[Wrong] = []
        for record in records:
            try:
                changes.append(self._parse(record))
            except InvalidItem as error:
                wrong.append((record, error))
        await bury(wrong, self._dead_letters, self._patience)
        if changes:
            await self._patience.wait_out(
                lambda: self._catalog.apply(changes), "items cannot be stored"
            )
        self._progress.changed(len(changes))
        self._progress.buried(wrong)
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


async def bury(wrong: Sequence[Wrong], dead_letters: DeadLetters, patience: Patience) -> None:
    """Send what is wrong in itself to `dead-letters`, each with the reason."""
    for start in range(0, len(wrong), _LETTERS_AT_ONCE):
        letters = wrong[start : start + _LETTERS_AT_ONCE]
        await patience.wait_out(partial(dead_letters.send, letters), "dead letters cannot be sent")
