"""The topic of erasures on a real broker: read to its end, followed, and heeded by trainings."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from kafka_tools import delete_topic, send_events, send_raw
from parts import eventually
from rich.console import Console

from headrace.cancellation import cancel_until_done
from headrace.commands.archive import archive_once, chosen_topics
from headrace.erasure_log import follow_erasures, read_erasure_log, read_erasures
from headrace.erasures import Erasure
from headrace.errors import HeadraceError
from headrace.log import end_offsets, read_columns
from headrace.settings import Settings
from headrace.topics import ERASURES, EVENT_TOPICS, Topics, ensure_topics, event_topic_ids

NOW = 1_704_060_026.0


@pytest.fixture
def made(settings: Settings) -> Settings:
    ensure_topics(settings)
    return settings


def erasure(user_id: str, end: int = 1, at: float = NOW) -> Erasure:
    return Erasure(
        user_id=user_id, at=at, topic_ids={"clicks": "c"}, through={"clicks": {"0": end}}
    )


def send(settings: Settings, *erasures: Erasure) -> None:
    send_raw(
        settings,
        ERASURES,
        [(each.user_id.encode(), msgspec.json.encode(each)) for each in erasures],
    )


def test_the_topic_is_read_to_its_end_and_of_a_user_the_last_counts(made: Settings) -> None:
    assert not read_erasures(made)
    users = [f"user-{n}" for n in range(300)]
    send(made, *(erasure(user, 1) for user in users))
    send(made, *(erasure(user, 2, at=NOW - 1) for user in users[:50]))
    erasures = read_erasures(made)
    assert {user: each.through["clicks"]["0"] for user, each in erasures.by_user.items()} == {
        user: 2 if number < 50 else 1 for number, user in enumerate(users)
    }


def test_it_is_told_who_was_erased_from_an_offset_on_in_whichever_partition(made: Settings) -> None:
    def write(partition: int, *users: str) -> None:
        rows = [(user.encode(), msgspec.json.encode(erasure(user))) for user in users]
        send_raw(made, ERASURES, rows, partition=partition)

    write(0, "ann", "bob", "cid", "dan")
    # As of a topic that has grown: a user's older erasure stands in another partition.
    write(3, "ann", "eve")
    send_raw(made, ERASURES, [(b"dan", None)], partition=0)
    log = read_erasure_log(made, made.topics.partitions)

    def beyond(**done: int) -> list[str]:
        by_partition = {int(name.removeprefix("p")): offset for name, offset in done.items()}
        return sorted(each.user_id for each in log.beyond(by_partition))

    assert beyond() == ["ann", "bob", "cid", "eve"]
    assert beyond(p0=2) == ["ann", "cid", "eve"]
    assert beyond(p0=5, p3=1) == ["eve"]
    assert beyond(p0=1, p3=2) == ["bob", "cid"]
    assert beyond(p0=0, p3=2) == ["ann", "bob", "cid"]
    assert beyond(p0=5, p3=2) == []


def test_what_is_no_erasure_is_told_and_passed_over(
    made: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    good = erasure("ann")
    rows = [
        (b"ann", msgspec.json.encode(good)),
        (b"ann", b"\xff"),
        (b"bob", b"{}"),
        (b"dan", b"7"),
        (b"\xff", None),
        (b"cid", msgspec.json.encode(good)),
        (b"dan", msgspec.json.encode(erasure("dan"))),
        # Taken back.
        (b"dan", None),
    ]
    send_raw(made, ERASURES, rows, partition=2)
    log = read_erasure_log(made, made.topics.partitions)
    assert log.erasures.by_user == {"ann": good}
    assert log.positions == {0: 0, 1: 0, 2: 8, 3: 0}
    told = [each.getMessage() for each in caplog.records if each.name == "headrace.erasure_log"]
    assert len(told) == 4
    assert "offset 1 is no erasure and is passed over: not JSON" in told[0]


def test_where_there_is_no_topic_nobody_was_erased(made: Settings) -> None:
    delete_topic(made, ERASURES)
    assert not read_erasures(made)


def test_a_broker_that_is_away_is_named(settings: Settings) -> None:
    away = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    with pytest.raises(HeadraceError, match=r"127\.0\.0\.1:9 .*who was erased"):
        read_erasures(away)


async def test_who_follows_hears_of_each_once_and_goes_on_after_what_is_no_erasure(
    made: Settings,
) -> None:
    send(made, erasure("ann"))
    log = await asyncio.to_thread(read_erasure_log, made)
    heard: list[Erasure] = []

    async def hear(erasures: Sequence[Erasure]) -> None:
        assert all(log.erasures.by_user[each.user_id] == each for each in erasures)
        heard.extend(erasures)

    follower = asyncio.create_task(follow_erasures(made, log, hear))
    try:
        for number, user in enumerate(["bob", "ann", "cid"]):
            new = erasure(user, 5)
            send_raw(made, ERASURES, [(b"ann", b"no erasure")])
            send(made, new)

            async def is_heard(count: int = number + 1) -> bool:
                assert not follower.done()
                return len(heard) == count

            await eventually(is_heard, f"{user} is heard of")
            assert heard[-1] == new
        send_raw(made, ERASURES, [(b"ann", None)])

        async def is_taken_back() -> bool:
            return "ann" not in log.erasures.by_user

        await eventually(is_taken_back, "the erasure is taken back")
        assert [each.user_id for each in heard] == ["bob", "ann", "cid"]
    finally:
        await cancel_until_done(follower)


async def test_who_follows_waits_for_a_broker_that_is_away(
    made: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    log = await asyncio.to_thread(read_erasure_log, made)
    away = msgspec.structs.replace(made, kafka="127.0.0.1:9")

    async def hear(_: Sequence[Erasure]) -> None:
        raise AssertionError

    follower = asyncio.create_task(follow_erasures(away, log, hear))

    async def tries_again() -> bool:
        assert not follower.done()
        tried = [record for record in caplog.records if "cannot be read" in record.getMessage()]
        return len(tried) >= 2

    await eventually(tries_again, "the broker is tried again")
    await cancel_until_done(follower)


def event(number: int, user: str, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "user_id": user,
        "item_id": f"i{number}",
        "timestamp": NOW + number,
        **fields,
    }


def test_trainings_read_no_event_from_before_its_user_was_erased(made: Settings) -> None:
    users = ["ann", "bob", "{}", "100%", "用户", "x" * 256]
    before = [event(n, users[n % 6]) for n in range(60)]
    send_events(made, "clicks", before)
    send_events(made, "ratings", [event(100 + n, users[n % 6], rating=4.0) for n in range(60)])
    through, ids = end_offsets(made), event_topic_ids(made)
    for user in users[1:]:
        forgotten = Erasure(user_id=user, at=NOW, topic_ids=ids, through=through)
        send_raw(made, ERASURES, [(user.encode(), msgspec.json.encode(forgotten))])
    # The last is one from before that is sent again.
    later = [event(200, "bob"), event(201, "ann"), event(7, "bob")]
    send_events(made, "clicks", later)
    columns = read_columns(made, end_offsets(made))
    rows = [
        (columns.user_ids[user], columns.item_ids[item])
        for user, item in zip(columns.user, columns.item, strict=True)
    ]
    expected = [("ann", f"i{n}") for n in range(0, 60, 6)]
    expected += [("ann", f"i{100 + n}") for n in range(0, 60, 6)]
    expected += [("bob", "i200"), ("ann", "i201"), ("bob", "i7")]
    assert sorted(rows) == sorted(expected)
    assert set(columns.user_ids) == {"ann", "bob"}
    assert set(columns.item_ids) == {item for _, item in expected}


def test_of_a_topic_made_anew_since_the_erasure_events_count(made: Settings) -> None:
    send_raw(made, "clicks", [(b"ann", json.dumps(event(n, "ann")).encode()) for n in range(5)])
    forgotten = Erasure(
        user_id="ann",
        at=NOW,
        topic_ids=event_topic_ids(made),
        through=end_offsets(made),
    )
    send(made, forgotten)
    assert len(read_columns(made, end_offsets(made))) == 0
    delete_topic(made, "clicks")
    ensure_topics(made)
    send_events(made, "clicks", [event(9, "ann")])
    columns = read_columns(made, end_offsets(made))
    assert columns.item_ids == ("i9",)


def test_what_was_archived_of_an_erased_user_stays_erased_when_all_topics_are_made_anew(
    made: Settings,
) -> None:
    clicks = [
        {"event_id": f"{user}-1", "user_id": user, "item_id": "tea", "timestamp": NOW}
        for user in ("ann", "bob")
    ]
    send_events(made, "clicks", clicks)
    ids = event_topic_ids(made)
    through = end_offsets(made)
    send(made, Erasure(user_id="ann", at=time.time(), topic_ids=ids, through=through))
    archive_once(made, chosen_topics(None, Topics(made)), Console(quiet=True))
    for topic in (*EVENT_TOPICS, ERASURES):
        delete_topic(made, topic)
    ensure_topics(made)
    send_events(made, "clicks", [{**clicks[0], "event_id": "ann-2"}])
    columns = read_columns(made, end_offsets(made))
    assert sorted(columns.user_ids[user] for user in columns.user) == ["ann", "bob"]
    # What came later counts.
    assert set(read_erasures(made).by_user) == {"ann"}
