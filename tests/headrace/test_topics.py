"""Topics on a real broker: made when missing, known again when made anew."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from kafka_tools import delete_topic, send_raw

from headrace.errors import HeadraceError
from headrace.settings import Settings
from headrace.topics import ALL, EVENT_TOPICS, Place, Topics, TopicWatch, ensure_topics

pytestmark = pytest.mark.brokers("embedded", "apache")


def test_missing_topics_are_made_and_present_ones_are_left(settings: Settings) -> None:
    made = ensure_topics(settings)
    assert sorted(made) == sorted(settings.topics.prefix + name for name in ALL)
    assert {topic.partitions for topic in made.values()} == {settings.topics.partitions}
    assert len({topic.id for topic in made.values()}) == len(ALL)
    assert ensure_topics(settings) == made


def test_several_parts_may_make_them_at_once(settings: Settings) -> None:
    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(lambda _: ensure_topics(settings), range(3))
    assert sorted(first) == sorted(settings.topics.prefix + name for name in ALL)
    assert all(other == first for other in others)


def test_a_topic_made_anew_is_noticed(settings: Settings) -> None:
    known = ensure_topics(settings)
    watch = TopicWatch(settings, known)
    try:
        assert watch.look()[0] == []
        delete_topic(settings, "ratings")
        ensure_topics(settings)
        assert watch.look()[0] == [f"{Topics(settings).name('ratings')} was made anew"]
    finally:
        watch.close()


def test_the_ends_of_partitions_are_those_of_what_was_sent(settings: Settings) -> None:
    known = ensure_topics(settings)
    watch = TopicWatch(settings, known)
    try:
        for _ in range(3):
            send_raw(settings, "clicks", [(b"ann", b"{}")], partition=1)
        _, ends = watch.look()
    finally:
        watch.close()
    assert len(ends) == sum(topic.partitions for topic in known.values())
    clicks = known[Topics(settings).name("clicks")].id
    assert {place: end for place, end in ends.items() if end} == {Place("clicks", clicks, 1): 3}


@pytest.mark.brokers("apache")
def test_a_topic_that_grew_is_noticed(settings: Settings) -> None:
    watch = TopicWatch(settings, ensure_topics(settings))
    name = Topics(settings).name("clicks")
    try:
        watch.ask(lambda admin: admin.create_partitions({name: 12}))
        deadline = time.monotonic() + 30
        while (changed := watch.look()[0]) == []:
            assert time.monotonic() < deadline
        assert changed == [f"{name} has 12 partitions instead of 4"]
    finally:
        watch.close()


@pytest.mark.brokers("embedded")
def test_a_broker_that_is_away_is_named(settings: Settings) -> None:
    # Port 9 (discard) has no listener here.
    away = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    with pytest.raises(HeadraceError, match=r"127\.0\.0\.1:9 .*HEADRACE_KAFKA"):
        ensure_topics(away)


def test_names_carry_the_prefix(settings: Settings) -> None:
    topics = Topics(settings)
    assert topics.events == tuple(settings.topics.prefix + name for name in EVENT_TOPICS)
    assert [topics.plain(name) for name in topics.events] == list(EVENT_TOPICS)
