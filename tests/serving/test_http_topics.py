"""Topics and dead letters over HTTP: how they stand; what is buried is mended and sent again."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import httpx
import msgspec
import pytest
from kafka_tools import bury, read_topic, send_raw
from parts import eventually
from serving_tools import Serve, check_problem

import headrace.letters
from headrace.erasures import Erasure
from headrace.positions import PositionStore
from headrace.settings import Settings
from headrace.store import connect
from headrace.topics import Place, Topics, topic_ids

EVENT = {"event_id": "e1", "user_id": "ann", "item_id": "tea", "timestamp": 1_704_060_026}
WRONG = json.dumps({**EVENT, "colour": "red"}).encode()


async def letters(client: httpx.AsyncClient, **params: str) -> Any:
    answer = await client.get("/v1/dead-letters", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def the_letter(client: httpx.AsyncClient) -> dict[str, Any]:
    """The one there is, once a reading of before it was buried is no longer answered."""

    async def is_there() -> bool:
        return (await letters(client))["count"] == 1

    await eventually(is_there, "it is a dead letter")
    [letter] = (await letters(client))["dead_letters"]
    return dict(letter)


async def test_topics_tell_how_far_they_go_and_how_far_workers_are(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    send_raw(settings, "ratings", [(b"ann", b"{}")] * 5, partition=0)
    ids = topic_ids(settings, ("ratings",))
    redis = connect(settings)
    positions = PositionStore(redis, settings)
    await positions.begin(ids)
    await positions.advance({Place("ratings", ids["ratings"], 0): 2})
    await redis.aclose()

    told = (await client.get("/v1/topics")).json()
    assert abs(told["at"] - time.time()) < 60
    assert told["over_s"] >= 1
    assert told["unknown"] == ""
    assert [each["topic"] for each in told["topics"]] == list(Topics(settings).all)
    ratings = next(each for each in told["topics"] if each["topic"] == "ratings")
    assert (ratings["id"], ratings["records"], ratings["lag"]) == (ids["ratings"], 5, 3)
    assert ratings["name"] == Topics(settings).name("ratings")
    assert ratings["partitions"][0] | {"newest": None} == {
        "partition": 0, "begin": 0, "end": 5, "newest": None, "position": 2, "lag": 3,
        "rate_in": 0.0, "rate_out": 0.0,
    }  # fmt: skip
    assert abs(ratings["newest"] - time.time()) < 60
    # No worker reads this one.
    erasures = next(each for each in told["topics"] if each["topic"] == "erasures")
    assert (erasures["lag"], erasures["rate_out"]) == (None, None)

    # A second look is compared with the first; all who ask together get the same.
    async def moved() -> bool:
        send_raw(settings, "ratings", [(b"ann", b"{}")] * 5, partition=0)
        both = await asyncio.gather(*(client.get("/v1/topics") for _ in range(2)))
        assert both[0].content == both[1].content
        [again] = [each for each in both[0].json()["topics"] if each["topic"] == "ratings"]
        return bool(again["rate_in"] > 0)

    await eventually(moved, "records come in")


async def test_a_dead_letter_is_mended_and_sent_again(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    assert await letters(client) == {"count": 0, "dead_letters": [], "cursor": None}
    await bury(settings, "ratings", [(b"bob", WRONG, "colour: is not a field")], times=2)
    letter = await the_letter(client)
    assert letter == {
        "id": letter["id"], "buried_at": letter["buried_at"], "topic": "ratings", "partition": 1,
        "offset": 0, "field": "", "reason": "colour: is not a field", "resent": False,
        "key": "bob", "key_base64": None, "value": WRONG.decode(), "value_base64": None,
    }  # fmt: skip
    assert (await client.get(f"/v1/dead-letters/{letter['id']}")).json() == letter

    # As it is no worker would take it; nor with a rating that is none.
    send = f"/v1/dead-letters/{letter['id']}/resend"
    problem = check_problem(await client.post(send), 422, "colour: is not a field")
    assert problem["errors"][0]["field"] == "colour"
    wrong = await client.post(send, json={"drop": ["colour"], "set": {"rating": "none"}})
    check_problem(wrong, 422, "rating")
    check_problem(await client.post(send, json={"drop": ["size"]}), 422, "it has no size to drop")
    check_problem(await client.post(send, json={"value_base64": "?"}), 422, "value_base64")
    both = {"value": "{}", "value_base64": "e30="}
    check_problem(await client.post(send, json=both), 422, "not both")
    assert read_topic(settings, "ratings") == []

    mended = {"drop": ["colour"], "set": {"rating": "4.5"}}
    dry = (await client.post(send, json={**mended, "dry_run": True})).json()
    value = json.dumps({**EVENT, "rating": 4.5}, separators=(",", ":"))
    assert dry == {
        "id": letter["id"], "topic": "ratings", "key": "ann", "value": value, "sent": False,
        "token": None, "refused": None,
    }  # fmt: skip
    # What would be refused is no error of whoever asks for a dry run: that is what it is for.
    for body, why in (
        ({}, "colour: is not a field"),
        ({"drop": ["size"]}, "it has no size to drop"),
    ):
        refused = await client.post(send, json={**body, "dry_run": True})
        assert (refused.status_code, refused.json()["sent"]) == (200, False)
        assert why in refused.json()["refused"]
    assert read_topic(settings, "ratings") == []

    sent = (await client.post(send, json=mended)).json()
    [record] = read_topic(settings, "ratings")
    assert (record.key, record.value.decode()) == (b"ann", value)
    assert dict(record.headers) == {"resent-from": letter["id"].encode()}
    assert sent == {**dry, "sent": True, "token": f"ratings.{record.partition}.{record.offset}"}
    assert (await the_letter(client))["resent"] is True

    check_problem(await client.post(send, json=mended), 409, "sent again already")
    assert (await client.post(send, json={**mended, "again": True})).status_code == 200
    erasure = Erasure(user_id="cid", at=time.time(), topic_ids={}, through={})
    send_raw(settings, "erasures", [(b"cid", msgspec.json.encode(erasure))])
    to_cid = {**mended, "set": {"rating": "4.5", "user_id": "cid"}, "again": True}
    check_problem(await client.post(send, json=to_cid), 422, "its user was erased after it")
    check_problem(await client.post("/v1/dead-letters/99-1/resend"), 404, "99-1")
    check_problem(await client.post("/v1/dead-letters/x/resend"), 422, "letter_id")


async def test_bytes_that_are_no_text_are_shown_in_base64_and_replaced(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    raw = b"\xff<script>"
    await bury(settings, "items", [(b"tea", raw, "it is not UTF-8"), (b"x", b"{", "not JSON")])

    async def both() -> bool:
        return (await letters(client))["count"] == 2

    await eventually(both, "both are dead letters")
    [letter] = (await letters(client, reason="utf-8"))["dead_letters"]
    assert letter["value"] is None
    assert base64.b64decode(letter["value_base64"]) == raw
    assert (await letters(client, topic="ratings"))["count"] == 0
    found = await letters(client, topic=Topics(settings).name("items"), limit="1")
    assert (found["count"], len(found["dead_letters"])) == (2, 1)

    item = base64.b64encode(b'{"item_id":"tea","title":"Tea"}').decode()
    send = f"/v1/dead-letters/{letter['id']}/resend"
    sent = (await client.post(send, json={"value_base64": item})).json()
    assert (sent["topic"], sent["key"], sent["token"]) == ("items", "tea", None)
    [record] = read_topic(settings, "items")
    assert json.loads(record.value) == {"item_id": "tea", "title": "Tea"}


async def test_older_letters_are_on_pages_of_their_own_and_none_is_read_again_in_vain(
    client: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, read = [], headrace.letters.letters
    monkeypatch.setattr(
        "headrace.letters.letters", lambda of: reads.append("all of them") or read(of)
    )
    monkeypatch.setattr("serving.kafka_views._FRESH_S", 0.0)

    async def pages(**params: str) -> list[Any]:
        found = [await letters(client, limit="2", **params)]
        while found[-1]["cursor"] is not None:
            params["cursor"] = found[-1]["cursor"]
            found.append(await letters(client, limit="2", **params))
        return found

    # Twice each: a letter is on one page whatever it was buried again by.
    wrong = [(b"ann", b"%d" % n, f"no. {n}") for n in range(5)]
    await bury(settings, "clicks", wrong, times=2)
    await bury(settings, "ratings", [(b"ann", b"6", "other")])
    whole = (await letters(client))["dead_letters"]
    found = await pages()
    assert [len(each["dead_letters"]) for each in found] == [2, 2, 2]
    assert [each["count"] for each in found] == [6, 6, 6]
    assert [letter for each in found for letter in each["dead_letters"]] == whole
    odd = [
        letter["reason"] for each in await pages(reason="no.") for letter in each["dead_letters"]
    ]
    assert sorted(odd) == [f"no. {n}" for n in range(5)]

    # What was answered before is answered without reading, until there is something else to read.
    (await client.get("/v1/topics")).raise_for_status()
    known = len(reads)
    one = f"/v1/dead-letters/{whole[-1]['id']}"
    answers = [(await client.get(one)).json() for _ in range(3)]
    assert await letters(client, limit="2", cursor=found[0]["cursor"]) == found[1]
    assert (answers, len(reads)) == ([whole[-1]] * 3, known + 1)

    # One that comes moves none to another page.
    await bury(settings, "ratings", [(b"bob", b"7", "new")])
    second = await letters(client, limit="2", cursor=found[0]["cursor"])
    assert (second["count"], second["dead_letters"]) == (7, found[1]["dead_letters"])
    assert len(reads) == known + 2
    for wrong_cursor in ("2-17", "x", "1-2-3-4-5"):
        answer = await client.get("/v1/dead-letters", params={"cursor": wrong_cursor})
        check_problem(answer, 422, "cursor: Expected the `cursor` of an answer")


@pytest.mark.parametrize("path", ["/v1/topics", "/v1/dead-letters", "/v1/dead-letters/0-1"])
async def test_without_kafka_it_says_so(settings: Settings, serve: Serve, path: str) -> None:
    settings = msgspec.structs.replace(settings, kafka="127.0.0.1:1")
    async with serve(settings) as client:
        answer = await client.get(path)
        check_problem(answer, 503, "127.0.0.1:1")
        assert answer.headers["retry-after"]
