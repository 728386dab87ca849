"""Where the consumer group reads on: an offset of a topic that was made anew since means nothing.

Kafka forgets a group's offsets with the topic, but a worker that has not noticed yet may commit
once more; the next one would pass over as many of the new topic's records.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import tenacity
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata
from redis import Redis
from redis.exceptions import RedisError

from headrace.errors import HeadraceError
from headrace.settings import Settings
from headrace.store import text
from headrace.topics import BOOTSTRAP_MS, ITEMS, TopicId, Topics

logger = logging.getLogger(__name__)

_GROUP_EMPTIES_S = 20.0
"""A broker takes offsets from outside a group once the group's dead members have timed out."""
_AGAIN_S = 0.5


def forget_stale_offsets(settings: Settings, known_topics: Mapping[str, TopicId]) -> None:
    """Have the group read topics that were made anew from their beginning. Blocks.

    Redis holds the id of each topic that the group's offsets belong to; while it is away it is
    waited for. Raises `HeadraceError` when Kafka does not take the offsets.
    """
    topics = Topics(settings)
    key = settings.key("worker", settings.worker.group, "topics")
    redis = Redis.from_url(settings.redis, socket_timeout=5.0, socket_connect_timeout=5.0)
    waiting = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(RedisError),
        wait=tenacity.wait_fixed(_AGAIN_S),
        before_sleep=lambda _: logger.warning("Redis at %s is waited for", settings.redis),
    )
    try:
        for name in (*topics.events, topics.name(ITEMS)):
            topic = known_topics[name]
            stored = waiting(redis.hget, key, name)
            if stored is not None and text(stored) != topic.id:
                _read_anew(settings, topic)
            waiting(redis.hset, key, name, topic.id)
    finally:
        redis.close()


def _read_anew(settings: Settings, topic: TopicId) -> None:
    logger.warning("%s was made anew; it is read from its beginning", topic.name)
    beginning = {
        TopicPartition(topic.name, number): OffsetAndMetadata(0, "", -1)
        for number in range(topic.partitions)
    }
    deadline = time.monotonic() + _GROUP_EMPTIES_S
    while True:
        try:
            _commit(settings, beginning)
            return
        except KafkaError as exc:
            if time.monotonic() > deadline:
                raise HeadraceError(
                    f"Kafka does not let group {settings.worker.group} read {topic.name} anew: "
                    f"{exc!r}. Is a worker of the group still running on the old topic?"
                ) from exc
            time.sleep(_AGAIN_S)


def _commit(settings: Settings, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
    consumer = KafkaConsumer(
        bootstrap_servers=settings.kafka.split(","),
        group_id=settings.worker.group,
        enable_auto_commit=False,
        bootstrap_timeout_ms=BOOTSTRAP_MS,
    )
    try:
        consumer.assign(list(offsets))
        consumer.commit(dict(offsets))
    finally:
        consumer.close()
