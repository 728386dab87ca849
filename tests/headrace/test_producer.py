"""Keys: whoever sends, a user's events are on one partition."""

from __future__ import annotations

import random
import string

import pytest
from aiokafka.partitioner import murmur2 as hash_of_aiokafka
from kafka.partitioner.default import murmur2 as hash_of_kafka_python
from kafka_tools import read_topic, send_raw

from headrace.producer import Outgoing, Producer
from headrace.settings import Settings
from headrace.topics import Topics, ensure_topics

# What Kafka's own client makes of them: `testMurmur2` in Apache Kafka,
# clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java.
KAFKA_HASHES = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def murmur2(key: bytes) -> int:
    """Austin Appleby's MurmurHash2, 32 bits, with Kafka's seed; unsigned."""
    low, mix = 0xFFFFFFFF, 0x5BD1E995
    value = 0x9747B28C ^ len(key)
    whole = len(key) // 4 * 4
    for start in range(0, whole, 4):
        word = int.from_bytes(key[start : start + 4], "little") * mix & low
        word = (word ^ word >> 24) * mix & low
        value = value * mix & low ^ word
    if key[whole:]:
        value = (value ^ int.from_bytes(key[whole:], "little")) * mix & low
    value = (value ^ value >> 13) * mix & low
    return value ^ value >> 15


def draw_keys() -> list[bytes]:
    """Keys of every length up to 64, beyond ASCII, empty and long."""
    rng = random.Random(7)
    drawn = [
        "".join(rng.choices(string.ascii_letters + "äßé漢字🙂", k=length)).encode()
        for length in range(65)
        for _ in range(3)
    ]
    return [b"", "Jürgen".encode(), "用户-42".encode(), b"x" * 100_000, b"\xff\x80" * 33, *drawn]


@pytest.mark.parametrize(("key", "signed"), KAFKA_HASHES.items())
def test_the_hash_is_that_of_kafkas_own_client(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF
    assert hash_of_aiokafka(key) & 0xFFFFFFFF == signed & 0xFFFFFFFF
    assert hash_of_kafka_python(key) & 0xFFFFFFFF == signed & 0xFFFFFFFF


async def test_every_producer_puts_a_key_on_the_same_partition(settings: Settings) -> None:
    ensure_topics(settings)
    partitions = settings.topics.partitions
    keys = draw_keys()
    ours = Producer(settings)
    try:
        positions = await ours.send(
            [Outgoing(Topics(settings).name("clicks"), key, b"ours") for key in keys]
        )
    finally:
        await ours.close()
    theirs = send_raw(settings, "clicks", [(key, b"theirs") for key in keys])

    right = [(murmur2(key) & 0x7FFFFFFF) % partitions for key in keys]
    assert [position.partition for position in positions] == right
    assert [partition for partition, _ in theirs] == right
    assert set(right) == set(range(partitions))
    # And so each key stands on one partition of the topic.
    found = {(record.key, record.partition) for record in read_topic(settings, "clicks")}
    assert len(found) == len(set(keys))
