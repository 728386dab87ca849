"""`headrace dead-letters`: what was buried is seen, mended, and sent again."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import kafka_tools
import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from command_line import headrace
from kafka_tools import delete_topic, read_topic, send_raw
from parts import Part, eventually
from redis.asyncio import Redis

from headrace.erasures import Erasure
from headrace.sessions import SessionStore
from headrace.settings import Settings
from headrace.store import connect
from headrace.topics import ensure_topics, topic_ids

EVENT = {"event_id": "e1", "user_id": "ann", "item_id": "tea", "timestamp": 1_704_060_026}


def run(settings: Settings, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return headrace("dead-letters", *arguments, **settings.environ(), **environ)


def listed(settings: Settings, *arguments: str) -> list[dict[str, Any]]:
    ended = run(settings, "list", "--json", *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return list(json.loads(ended.stdout))


def bury(
    settings: Settings,
    topic: str,
    records: list[tuple[bytes | None, bytes | None, str]],
    times: int = 1,
) -> None:
    """Bury records; see `kafka_tools.bury`."""
    asyncio.run(kafka_tools.bury(settings, topic, records, times))


def ids(settings: Settings) -> list[str]:
    """The ids of the letters, in the order of their origins."""
    return [each["id"] for each in sorted(listed(settings), key=lambda each: each["offset"])]


async def test_a_letter_is_mended_and_a_worker_applies_it(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    # It has no rating, a field that there is not, and another user's key.
    raw = json.dumps({**EVENT, "colour": "red"}).encode()
    [(partition, offset)] = send_raw(settings, "ratings", [(b"bob", raw)])
    sessions = SessionStore(redis, settings)
    with Part("worker", settings, tmp_path):

        async def buried() -> list[dict[str, Any]]:
            return await asyncio.to_thread(listed, settings)

        await eventually(buried, "it is a dead letter")
        [letter] = await buried()
        assert (letter["partition"], letter["offset"]) == (partition, offset)
        assert letter["reason"].startswith("colour: is not a field")
        assert not letter["resent"]
        mended = await asyncio.to_thread(
            run, settings, "send", letter["id"], "--set", "rating=4.5", "--drop", "colour",
            "--set", "context.device=phone",
        )  # fmt: skip
        assert (mended.returncode, mended.stderr) == (0, "")
        assert "1 sent again, 0 refused." in mended.stdout

        async def applied() -> bool:
            return (await sessions.read("ann")).applied == 1

        await eventually(applied, "the event is applied")
    assert (await sessions.read("ann")).interactions()["tea"].rating == 4.5
    record = read_topic(settings, "ratings")[-1]
    assert json.loads(record.value) == {**EVENT, "rating": 4.5, "context": {"device": "phone"}}
    assert record.key == b"ann"
    assert dict(record.headers) == {"resent-from": letter["id"].encode()}
    assert [each["resent"] for each in await buried()] == [True]


async def test_a_record_of_nothing_is_buried_too(settings: Settings, tmp_path: Path) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    # A client's `send` refuses it; others than aiokafka and kafka-python may not.
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        batch = producer.create_batch()
        assert batch.append(key=None, value=None, timestamp=None)
        await (await producer.send_batch(batch, f"{settings.topics.prefix}clicks", partition=0))
    with Part("worker", settings, tmp_path) as worker:

        async def buried() -> list[dict[str, Any]]:
            return await asyncio.to_thread(listed, settings)

        await eventually(buried, "it is a dead letter")
        assert worker.runs
    [letter] = await buried()
    assert (letter["key"], letter["value"], letter["resent"]) == (None, None, False)
    value = json.dumps(EVENT)
    arguments = ("dead-letters", "send", letter["id"], "--value=-")
    sent = await asyncio.to_thread(headrace, *arguments, stdin=value, **settings.environ())
    assert (sent.returncode, sent.stderr) == (0, "")
    assert [each["resent"] for each in await buried()] == [True]


def test_nothing_wrong_is_sent_and_nothing_twice(settings: Settings) -> None:
    good, ahead = json.dumps(EVENT).encode(), json.dumps({**EVENT, "timestamp": 1e12}).encode()
    bury(settings, "clicks", [(b"ann", good, "was wrong"), (b"ann", ahead, "ahead")])
    first, second = ids(settings)

    tried = run(settings, "send", "--all", "--dry-run")
    assert tried.returncode == 1
    assert "1 would be sent again, 1 refused." in tried.stdout
    assert read_topic(settings, "clicks") == []

    sent = run(settings, "send", "--all")
    assert sent.returncode == 1
    assert re.search(rf"{second} +refused: timestamp: .*not milliseconds", sent.stdout)
    assert [record.value for record in read_topic(settings, "clicks")] == [good]

    again = run(settings, "send", first)
    assert again.returncode == 1
    assert "it was sent again already; --again" in again.stdout
    # With --all, what was sent is passed over without a word.
    assert "0 sent again, 0 refused." in run(settings, "send", "--all", "--reason=was").stdout
    assert len(read_topic(settings, "clicks")) == 1
    assert run(settings, "send", first, "--again").returncode == 0
    assert len(read_topic(settings, "clicks")) == 2
    assert {each["id"]: each["resent"] for each in listed(settings)} == {first: True, second: False}


def test_a_record_that_was_buried_twice_is_one_letter(settings: Settings) -> None:
    bury(settings, "clicks", [(b"ann", b"{", "one"), (b"ann", b"{", "two")], times=2)
    # The same place in a topic that was made anew.
    bury(settings, "clicks", [(b"ann", b"[", "another")])
    letters = listed(settings)
    assert sorted(letter["reason"] for letter in letters) == ["another", "one", "two"]
    # The second burial's id means the same letter.
    records = read_topic(settings, "dead-letters")
    assert len(records) == 5
    for record in records:
        shown = run(settings, "show", f"{record.partition}-{record.offset}")
        assert shown.returncode == 0
        assert dict(record.headers)["reason"].decode() in shown.stdout
    once = f"{records[0].partition}-{records[0].offset}"
    twice = f"{records[1].partition}-{records[1].offset}"
    value = json.dumps(EVENT)
    sent = headrace("dead-letters", "send", twice, "--value=-", stdin=value, **settings.environ())
    assert sent.returncode == 0
    assert [each["id"] for each in listed(settings) if each["resent"]] == [once]
    # The very same, of a topic made anew: another record, which nobody has sent again.
    delete_topic(settings, "clicks")
    bury(settings, "clicks", [(b"ann", b"{", "anew")])
    assert [each["reason"] for each in listed(settings) if not each["resent"]].count("anew") == 1
    assert len(listed(settings)) == 4


def test_letters_are_chosen_by_reason_topic_and_age(settings: Settings) -> None:
    bury(settings, "clicks", [(None, None, "no value"), (None, b"x", "Not JSON: x")])
    bury(settings, "items", [(b"i", b"x", "not JSON: y")])
    assert [each["reason"] for each in listed(settings, "--reason=not json", "--topic=items")] == [
        "not JSON: y"
    ]
    assert len(listed(settings, "--reason=not json")) == 2
    assert len(listed(settings, f"--topic={settings.topics.prefix}clicks")) == 2
    assert len(listed(settings, "--since=1h")) == 3
    assert listed(settings, "--since=0s") == []
    assert [each["reason"] for each in listed(settings, "--limit=1")] == ["not JSON: y"]
    table = run(settings, "list", "--limit=1").stdout
    assert "items/1/0" in table
    assert "and 2 older ones" in table
    assert run(settings, "list", "--reason=none of them").stdout.startswith("There are no such")


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x1b[2J\x1b]0;title\x07\r\x08",
        json.dumps({"user_id": "\x1b[31m"}, ensure_ascii=False).encode(),
        '{"a": "\x7f\x9b31m\u202e\u2028"}'.encode(),
        b"\xff\xfe\x00\x1b[31m" * 20,
        b"[red]not[/] [markup",
        b"",
    ],
)
def test_no_bytes_reach_the_terminal_raw(hostile: bytes, settings: Settings) -> None:
    reason = "not JSON: \x1b[31m \u202e [bold]"
    bury(settings, "clicks", [(hostile, hostile, reason)])
    [letter] = listed(settings)
    for arguments in (["list"], ["show", letter["id"]], ["send", "--all"]):
        for more in ([], ["--json"]) if arguments[0] != "send" else ([],):
            ended = run(settings, *arguments, *more)
            assert ended.stderr == ""
            assert re.sub("[ -~\n]", "", ended.stdout).isprintable() is True
    shown = json.loads(run(settings, "show", letter["id"], "--json").stdout)
    assert shown["reason"] == reason
    value = shown.get("value")
    raw = base64.b64decode(shown["value_base64"]) if value is None else value.encode()
    assert raw == hostile
    if hostile.startswith(b"["):
        assert hostile.decode() in run(settings, "show", letter["id"]).stdout


def test_an_item_is_keyed_by_its_id(settings: Settings) -> None:
    bury(
        settings,
        "items",
        [
            (b"i2", b'{"item_id": "i1"}', "item_id: 'i1' differs"),
            (b"i3", None, "it deletes"),
            (None, None, "no key"),
        ],
    )
    sent = run(settings, "send", "--all", "--topic=items")
    assert sent.returncode == 1
    assert "its key names none" in sent.stdout
    records = {(record.key, record.value) for record in read_topic(settings, "items")}
    assert records == {(b"i1", b'{"item_id": "i1"}'), (b"i3", None)}


def test_a_value_is_changed_in_an_editor(settings: Settings, tmp_path: Path) -> None:
    bury(settings, "clicks", [(b"ann", b'{"user_id": "ann", "oops": 1}', "oops")])
    [letter_id] = ids(settings)
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\nprintf '%s' '{json.dumps(EVENT)}' > \"$1\"\n")
    editor.chmod(0o755)
    sent = run(settings, "send", letter_id, "--edit", EDITOR=str(editor), VISUAL=str(editor))
    assert (sent.returncode, sent.stderr) == (0, "")
    assert [json.loads(record.value) for record in read_topic(settings, "clicks")] == [EVENT]

    editor.write_text("#!/bin/sh\nexit 0\n")
    environ = {"EDITOR": str(editor), "VISUAL": str(editor)}
    untouched = run(settings, "send", letter_id, "--edit", "--again", **environ)
    assert untouched.stderr == "headrace: Nothing was changed, so nothing is sent.\n"
    environ = {"EDITOR": str(tmp_path / "none"), "VISUAL": ""}
    missing = run(settings, "send", letter_id, "--edit", "--again", **environ)
    assert "Name another in EDITOR." in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["show", "abc"], "'abc' is not the id of a dead letter; `headrace dead-letters list`"),
        (["show", "0-99"], "There is no dead letter 0-99."),
        (["send"], "Say which dead letters: their ids, or --all."),
        (["send", "0-0", "--reason=x"], "Give ids, or --all with --reason"),
        (["send", "--all", "--value=x"], "--edit and --value are for one letter"),
        (["list", "--since=x"], "--since 'x' is no duration"),
    ],
)
def test_wrong_use_is_told_the_right_one(
    arguments: list[str], cure: str, settings: Settings
) -> None:
    ensure_topics(settings)
    ended = run(settings, *arguments)
    assert ended.returncode == 1
    assert cure in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_topic_that_there_is_not_is_refused_with_those_there_are(settings: Settings) -> None:
    bury(settings, "old-clicks", [(b"ann", b"x", "no model has it now")])
    assert len(listed(settings, "--topic=old-clicks")) == 1
    assert listed(settings, "--topic=ratings") == []
    for arguments in (["list", "--json"], ["send", "--all"]):
        ended = run(settings, *arguments, "--topic=click[s]")
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "--topic 'click[s]' is not a topic, and no dead letter came from" in ended.stderr
        assert "there are clicks, purchases, ratings, " in ended.stderr
        assert ended.stderr.endswith(", old-clicks.\n")


def test_a_field_that_there_is_not_is_refused_with_those_there_are(settings: Settings) -> None:
    bury(settings, "clicks", [(b"ann", json.dumps(EVENT).encode(), "x"), (b"ann", b"no", "y")])
    ended = run(settings, "send", "--all", "--set", "rating=4")
    assert ended.stdout.count("'rating' is not a field; there are event_id") == 1
    assert "its value is not JSON; give a whole one with --value FILE" in ended.stdout
    assert read_topic(settings, "clicks") == []


def test_a_kafka_that_is_away_is_named() -> None:
    ended = headrace("dead-letters", "list", HEADRACE_KAFKA="127.0.0.1:9")
    assert ended.returncode == 1
    assert ended.stderr.startswith("headrace: Kafka at 127.0.0.1:9 ")
    assert ended.stderr.count("\n") == 1


def test_letters_of_an_erased_user_are_neither_shown_nor_sent(settings: Settings) -> None:
    bury(settings, "clicks", [(b"ann", b"{", "before"), (b"bob", b"{", "another's")])
    # Whose id is the user's, too.
    bury(settings, "items", [(b"ann", b"{", "of an item")])
    [letter] = [each["id"] for each in listed(settings) if each["reason"] == "before"]
    erasure = Erasure(user_id="ann", at=time.time(), topic_ids={"clicks": "c"}, through={})
    send_raw(settings, "erasures", [(b"ann", msgspec.json.encode(erasure))])
    bury(settings, "clicks", [(b"ann", b"{{", "after")])
    assert sorted(each["reason"] for each in listed(settings)) == [
        *("after", "another's", "of an item"),
    ]
    ended = run(settings, "send", letter)
    assert ended.returncode == 1
    assert letter in ended.stderr


def test_of_an_erased_user_is_a_letter_too_that_names_them_under_no_key_or_another(
    settings: Settings,
) -> None:
    anns = json.dumps({**EVENT, "colour": "red"}).encode()
    records = [(None, anns, "no key"), (b"session-1", anns, "another key"), (b"bob", b"{", "bob's")]
    bury(settings, "clicks", [*records, (None, b"{", "nobody's")])
    assert len(listed(settings)) == 4
    erasure = Erasure(user_id="ann", at=time.time(), topic_ids={"clicks": "c"}, through={})
    send_raw(settings, "erasures", [(b"ann", msgspec.json.encode(erasure))])
    assert sorted(each["reason"] for each in listed(settings)) == ["bob's", "nobody's"]
    assert "0 sent again" in run(settings, "send", "--all", "--drop", "colour").stdout
    # Nor is one mended into an event of theirs.
    [nobodys] = [each["id"] for each in listed(settings) if each["reason"] == "nobody's"]
    arguments = ("dead-letters", "send", nobodys, "--value=-")
    ended = headrace(*arguments, stdin=json.dumps(EVENT), **settings.environ())
    assert ended.returncode == 1
    assert "refused: its user was erased after it" in ended.stdout
    assert read_topic(settings, "clicks") == []
    cids = json.dumps({**EVENT, "user_id": "cid"})
    assert headrace(*arguments, stdin=cids, **settings.environ()).returncode == 0
    assert [record.key for record in read_topic(settings, "clicks")] == [b"cid"]


def test_a_letter_that_was_buried_after_the_erasure_of_an_event_before_it_is_not_shown(
    settings: Settings,
) -> None:
    """A worker may have had the record in hand while its user was erased."""
    ensure_topics(settings)
    topic_id = topic_ids(settings, ("clicks",))["clicks"]
    erasure = Erasure(
        user_id="ann", at=time.time(), topic_ids={"clicks": topic_id}, through={"clicks": {"1": 1}}
    )
    send_raw(settings, "erasures", [(b"ann", msgspec.json.encode(erasure))])
    bury(settings, "clicks", [(b"ann", b"{", "before"), (b"ann", b"{", "after")])
    assert [each["reason"] for each in listed(settings)] == ["after"]


async def test_a_record_too_large_to_be_buried_whole_is_buried_cut(
    settings: Settings, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    options = {"bootstrap_servers": settings.kafka, "max_request_size": 4 << 20}
    huge, event = b"x" * 1_040_000, json.dumps({**EVENT, "rating": 4.5}).encode()
    async with AIOKafkaProducer(**options) as producer:
        for value in (huge, event):
            await producer.send_and_wait(f"{settings.topics.prefix}ratings", value, b"ann", 0)
    redis = connect(settings)
    try:
        with Part("worker", settings, tmp_path) as worker:

            async def applied() -> bool:
                return (await SessionStore(redis, settings).read("ann")).applied == 1

            await eventually(applied, "what comes after it is applied")
            assert worker.runs
    finally:
        await redis.aclose()
    [letter] = await asyncio.to_thread(listed, settings)
    assert letter["reason"].endswith("; cut, it was 1,040,003 bytes")
    assert letter["value"] == "x" * 65_536


def test_a_retrain_event_is_mended_and_sent_again(settings: Settings) -> None:
    bury(settings, "retrain", [(None, b'{"epochs": 0}', "epochs: is 0")])
    [letter] = listed(settings)
    assert run(settings, "send", letter["id"]).returncode == 1
    refused = run(settings, "send", letter["id"], "--set", "epochs=3")
    assert "give its --value" in refused.stdout
    value = '{"epochs": 3}'
    sent = headrace(
        "dead-letters", "send", letter["id"], "--value=-", stdin=value, **settings.environ()
    )
    assert (sent.returncode, sent.stderr) == (0, "")
    [record] = read_topic(settings, "retrain")
    assert record.value == value.encode()
    assert [each["resent"] for each in listed(settings)] == [True]
