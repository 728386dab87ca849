"""What a worker has done since it started: the one place where it is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headrace.dead_letters import Record
from headrace.errors import InvalidEvent
from headrace.evaluation import POPULAR, Score
from headrace.sessions import LoggedEvent, Outcome
from headrace.topics import Place, TopicId, Topics


@dataclass
class Progress:
    """Counts of records by what became of them, and how far each partition is done."""

    topics: Topics
    ids: dict[str, TopicId]
    """By name on the broker, the topics as the worker found them."""
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By topic and outcome: an `Outcome`, or `invalid`."""
    items: int = 0
    dead_letters: int = 0
    impressions: int = 0
    """Lists that were served, kept."""
    scored: int = 0
    """Events scored against the lists before them."""
    scores: dict[str, Score] = field(default_factory=dict)
    """By label, how lists fared since `take_scores`."""
    positions: dict[Place, int] = field(default_factory=dict)
    """The offset after the last record that is done with."""

    def applied(self, events: Sequence[LoggedEvent], outcomes: Sequence[Outcome]) -> None:
        """Note what became of events."""
        self.events.update(
            (event.topic, outcome) for event, outcome in zip(events, outcomes, strict=True)
        )

    def judged(self, scores: Mapping[str, Score]) -> None:
        """Note how lists fared with some events."""
        for label, score in scores.items():
            self.scores[label] = self.scores.get(label, Score()) + score
            if label != POPULAR:
                self.scored += score.events

    def take_scores(self) -> Mapping[str, Score]:
        """Return how lists fared since this was called last."""
        scores, self.scores = self.scores, {}
        return scores

    def erased(self, records: Sequence[Record]) -> None:
        """Note records of users who were erased after them."""
        self.events.update((self.topics.plain(record.topic), "erased") for record in records)

    def changed(self, items: int) -> None:
        """Note changes of the catalogue."""
        self.items += items

    def buried(self, wrong: Sequence[tuple[Record, InvalidEvent]]) -> None:
        """Note records that are dead letters."""
        self.dead_letters += len(wrong)
        self.events.update((self.topics.plain(record.topic), "invalid") for record, _ in wrong)

    def done(self, records: Sequence[Record]) -> None:
        """Note that these records, each partition's in order, are done with."""
        ends = {(record.topic, record.partition): record.offset + 1 for record in records}
        for (name, partition), end in ends.items():
            place = self.place(name, partition)
            # A batch may come once more after a rebalance.
            self.positions[place] = max(end, self.positions.get(place, 0))

    def pass_over(self, place: Place, position: int) -> None:
        """Note that nothing before this offset is left to be done."""
        if position:
            self.positions[place] = max(position, self.positions.get(place, 0))

    def place(self, name: str, partition: int) -> Place:
        """Return the place of this partition of the topic of this name on the broker."""
        return Place(self.topics.plain(name), self.ids[name].id, partition)

    def total(self, outcome: str) -> int:
        """Return how many events of all topics had this outcome."""
        return sum(count for (_, of), count in self.events.items() if of == outcome)
