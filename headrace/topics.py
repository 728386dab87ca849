"""The topics: their names, how they are kept, and making the missing ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from headrace.errors import HeadraceError, KafkaUnavailable
from headrace.kafka_clients import client_options
from headrace.settings import Settings

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient, NewTopic

EVENT_TOPICS = {"clicks": "click", "purchases": "purchase", "ratings": "rating"}
"""The topic of events, and the kind of event that it carries, of models without topics of their
own; see `Topics.kinds`."""
ITEMS = "items"
RETRAIN = "retrain"
MODEL_VERSIONS = "model-versions"
DEAD_LETTERS = "dead-letters"
ERASURES = "erasures"
IMPRESSIONS = "impressions"

COMPACTED = frozenset({ITEMS, MODEL_VERSIONS, ERASURES})
BOOTSTRAP_MS = 5_000
"""Longest wait for a broker to answer the first time, in milliseconds."""
_KNOWN_WITHIN_S = 10.0

NO_EVENTS = (ITEMS, IMPRESSIONS, RETRAIN, MODEL_VERSIONS, DEAD_LETTERS, ERASURES)
"""Topics that carry something else, for all models together."""
ALL = (*EVENT_TOPICS, *NO_EVENTS)
"""All there are where no model has topics of its own; see `Topics.all`."""


_Answer = TypeVar("_Answer")


class TopicId(Struct, frozen=True):
    """A topic as the broker has it now. A topic made anew under the same name has another id."""

    name: str
    id: str
    partitions: int


class Place(Struct, frozen=True):
    """A partition of a topic as it was made."""

    topic: str
    """Without the prefix."""
    topic_id: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.topic_id}/{self.partition}"

    @classmethod
    def parse(cls, name: str) -> Place:
        """Return the place of this name; the reverse of `str`."""
        topic, _, rest = name.partition("/")
        topic_id, _, partition = rest.rpartition("/")
        return cls(topic, topic_id, int(partition))


Ends = Mapping[Place, int]
"""By place, the offset after its last record."""


class Topics:
    """The topics of a model, and of all, under the prefix that settings give."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topics.prefix
        self.kinds = _kinds(settings)
        """By topic of the model's events, without the prefix, the kind that it carries."""
        # The shared ones are there though no model reads them: whoever adds one finds events.
        self.all_kinds = {**EVENT_TOPICS}
        """The same, of all models."""
        for of_state in settings.states:
            self.all_kinds |= _kinds(of_state)
        self.all = (*self.all_kinds, *NO_EVENTS)
        """Every topic, without the prefix."""

    def name(self, topic: str) -> str:
        """Return the name on the broker of one of `all`."""
        return self._prefix + topic

    def plain(self, name: str) -> str:
        """Return which of `all` has this name on the broker."""
        return name.removeprefix(self._prefix)

    def of_kind(self, kind: str) -> str:
        """Return which of the model's topics carries this kind of event."""
        return next(topic for topic, of in self.kinds.items() if of == kind)

    def to_train(self, *, global_data: bool) -> tuple[str, ...]:
        """Return the topics that a training reads: the model's, or all models'."""
        return tuple(self.all_kinds if global_data else self.kinds)

    @property
    def events(self) -> tuple[str, ...]:
        """Names on the broker of the topics of the model's events."""
        return tuple(self.name(topic) for topic in self.kinds)


def _kinds(settings: Settings) -> dict[str, str]:
    return dict(zip(settings.event_topics.names, EVENT_TOPICS.values(), strict=True))


def ensure_topics(settings: Settings) -> dict[str, TopicId]:
    """Make the topics that are missing and return all of them by name on the broker. Blocks.

    Raises `HeadraceError` when the broker cannot be reached or refuses.
    """
    # Deferred: only what administers topics pays for this import.
    from kafka.admin import KafkaAdminClient, NewTopic
    from kafka.errors import KafkaError

    topics = Topics(settings)
    names = [topics.name(topic) for topic in topics.all]
    try:
        admin = KafkaAdminClient(**client_options(settings), bootstrap_timeout_ms=BOOTSTRAP_MS)
        try:
            present = set(admin.list_topics())
            missing = [
                NewTopic(
                    name=topics.name(topic),
                    num_partitions=settings.topics.partitions,
                    replication_factor=settings.topics.replication,
                    topic_configs={"cleanup.policy": "compact"} if topic in COMPACTED else {},
                )
                for topic in topics.all
                if topics.name(topic) not in present
            ]
            if missing:
                _create(admin, missing)
            return _until_known(admin, names)
        finally:
            admin.close()
    except (KafkaError, OSError, ValueError) as exc:
        raise HeadraceError(
            f"Kafka at {settings.kafka} cannot make the topics: {exc!r}. "
            "Is it running, and is HEADRACE_KAFKA right?"
        ) from exc


def delete_topics(settings: Settings) -> None:
    """Delete the topics of these settings, for good. Blocks.

    Raises `HeadraceError` when the broker cannot be reached or refuses.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    topics = Topics(settings)
    try:
        admin = KafkaAdminClient(**client_options(settings), bootstrap_timeout_ms=BOOTSTRAP_MS)
        try:
            present = set(admin.list_topics())
            admin.delete_topics([topics.name(t) for t in topics.all if topics.name(t) in present])
        finally:
            admin.close()
    except (KafkaError, OSError, ValueError) as exc:
        raise HeadraceError(
            f"Kafka at {settings.kafka} cannot delete the topics of prefix "
            f"{settings.topics.prefix!r}: {exc!r}. Delete them by hand."
        ) from exc


class TopicLookup:
    """Looks again and again what topics the broker has, over one connection."""

    def __init__(self, settings: Settings, *, timeout_ms: int = 30_000) -> None:
        """`timeout_ms` bounds the wait for an answer of the broker's."""
        self._settings = settings
        self._timeout_ms = timeout_ms
        self._admin: KafkaAdminClient | None = None
        self._lock = threading.Lock()

    def look_up(self, names: Sequence[str]) -> dict[str, TopicId]:
        """Return the topics of these names that exist, by name. Blocks.

        Raises `kafka.errors.KafkaError` or `OSError` when the broker cannot be reached.
        """
        return self.ask(lambda admin: describe_topics(admin, list(names)))

    def ask(self, question: Callable[[KafkaAdminClient], _Answer]) -> _Answer:
        """Return what the question returns of a client that is connected. Blocks.

        Raises `kafka.errors.KafkaError` or `OSError` when the broker cannot be reached.
        """
        from kafka.admin import KafkaAdminClient

        with self._lock:
            try:
                if self._admin is None:
                    self._admin = KafkaAdminClient(
                        **client_options(self._settings),
                        bootstrap_timeout_ms=BOOTSTRAP_MS,
                        request_timeout_ms=self._timeout_ms,
                    )
                return question(self._admin)
            except BaseException:
                self._disconnect()
                raise

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None


class TopicWatch(TopicLookup):
    """Looks whether topics are still the ones they were, and how far they have come."""

    def __init__(self, settings: Settings, known: Mapping[str, TopicId]) -> None:
        super().__init__(settings)
        self._topics = Topics(settings)
        self._known = known

    def look(self) -> tuple[list[str], Ends]:
        """Return in words what has changed, and the ends of the known topics' partitions. Blocks.

        The embedded broker counts the newest batch as one record. Raises what `look_up` raises.
        """
        found = self.look_up(list(self._known))
        changed = [
            change
            for name, topic in found.items()
            if (change := _change(self._known[name], topic)) is not None
        ]
        return changed, self._ends(found)

    def _ends(self, found: Mapping[str, TopicId]) -> Ends:
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec

        places = {
            TopicPartition(name, partition): Place(self._topics.plain(name), topic.id, partition)
            for name, topic in found.items()
            for partition in range(topic.partitions)
        }
        answers = self.ask(
            lambda admin: admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
        )
        return {place: answers[partition].offset for partition, place in places.items()}


def _change(known: TopicId, found: TopicId) -> str | None:
    if found.id != known.id:
        return f"{found.name} was made anew"
    if found.partitions != known.partitions:
        return f"{found.name} has {found.partitions} partitions instead of {known.partitions}"
    return None


def describe_topics(admin: KafkaAdminClient, names: list[str]) -> dict[str, TopicId]:
    """Return the topics of these names that exist, by name."""
    found = admin.describe_topics(names)
    return {
        topic["name"]: TopicId(topic["name"], str(topic["topic_id"]), len(topic["partitions"]))
        for topic in found
        if topic["error_code"] == 0
    }


def _create(admin: KafkaAdminClient, missing: list[NewTopic]) -> None:
    from kafka.errors import TopicAlreadyExistsError

    try:
        admin.create_topics(missing)
    except TopicAlreadyExistsError:
        # Another part made them between our look and our call.
        return


def _until_known(admin: KafkaAdminClient, names: list[str]) -> dict[str, TopicId]:
    """Return the topics, which a broker knows of a moment after they were made."""
    deadline = time.monotonic() + _KNOWN_WITHIN_S
    while len(found := describe_topics(admin, names)) < len(names):
        if time.monotonic() > deadline:
            missing = ", ".join(sorted(set(names) - set(found)))
            raise HeadraceError(
                f"Kafka has taken the order to make {missing} and does not know them "
                f"{_KNOWN_WITHIN_S:.0f} s later. Is it well?"
            )
        time.sleep(0.02)
    return found


def event_topic_ids(settings: Settings) -> dict[str, str]:
    """Return the ids of the topics of the model's events, by name without the prefix. Blocks.

    Raises `HeadraceError` when Kafka cannot be reached.
    """
    return topic_ids(settings, tuple(Topics(settings).kinds))


def topic_ids(settings: Settings, topics: Sequence[str]) -> dict[str, str]:
    """Return the ids of those of these topics that exist, by name without the prefix. Blocks.

    Raises `KafkaUnavailable`.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    names = Topics(settings)
    try:
        admin = KafkaAdminClient(**client_options(settings), bootstrap_timeout_ms=BOOTSTRAP_MS)
        try:
            found = describe_topics(admin, [names.name(topic) for topic in topics])
        finally:
            admin.close()
    except (KafkaError, OSError, ValueError) as exc:
        raise KafkaUnavailable(
            f"Kafka at {settings.kafka} cannot describe the topics: {exc!r}. "
            "Is it running, and is HEADRACE_KAFKA right?"
        ) from exc
    return {names.plain(name): topic.id for name, topic in found.items()}
