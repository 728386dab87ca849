"""The Python client against a running server and worker; most of it for both of its kinds."""

from __future__ import annotations

import asyncio
import inspect
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from client_parts import KEY
from parts import eventually

from headrace_client import (
    AcceptedEvent,
    AsyncClient,
    Client,
    Conflict,
    Invalid,
    Item,
    ItemBody,
    MergeRequest,
    NotFound,
    Rating,
    RecommendationRequest,
    RefusedEvent,
    Retries,
    Stale,
    TokenRequest,
    TrainingRequest,
    Unauthorized,
    Unreachable,
    click,
    tokens,
)

Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
async def call(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Call]:
    """Calls a method of the client by its name, of either kind."""
    if request.param == "sync":
        with Client(url, KEY) as blocking:

            async def in_thread(name: str, *args: Any, **options: Any) -> Any:
                return await asyncio.to_thread(getattr(blocking, name), *args, **options)

            yield in_thread
    else:
        async with AsyncClient(url, KEY) as client:

            async def awaited(name: str, *args: Any, **options: Any) -> Any:
                return await getattr(client, name)(*args, **options)

            yield awaited


@pytest.fixture
def user() -> str:
    return f"user-{uuid.uuid4().hex[:8]}"


def rating(user_id: str, item_id: str, **given: Any) -> Rating:
    return Rating(
        event_id=given.get("event_id") or uuid.uuid4().hex,
        user_id=user_id,
        item_id=item_id,
        timestamp=time.time(),
        rating=given.get("rating", 4.5),
    )


async def test_an_answer_knows_the_events_whose_tokens_it_was_asked_for(
    call: Call, user: str
) -> None:
    sent = await call("send_events", [rating(user, "tea"), click(user, "a cup/of ß?")])
    assert (sent.accepted, sent.invalid, sent.unknown) == (2, 0, 0)
    asked = RecommendationRequest(user_id=user, after=tokens(sent), timeout_ms=10_000)
    answer = await call("recommend", asked)
    assert answer.session.interactions == 2
    assert user in [each.user_id for each in (await call("users", limit=100)).users]
    known = await call("interactions", user)
    assert known.interactions["tea"].rating == 4.5
    assert known.interactions["a cup/of ß?"].event == "click"
    again = await call("recommend", RecommendationRequest(user_id=user))
    assert again.session.applied == 2

    async def kept() -> bool:
        try:
            served = await call("served", again.id)
        except NotFound:
            return False
        return bool(served.session.interactions == 2)

    await eventually(kept, "what was served can be looked at")


async def test_a_model_is_asked_by_its_name(url: str, user: str) -> None:
    async with AsyncClient(url, KEY, model_id="default") as client:
        sent = await client.send_event(rating(user, "a cup/of ß?"))
        assert isinstance(sent, AcceptedEvent)
        asked = RecommendationRequest(user_id=user, after=[sent.token], timeout_ms=10_000)
        assert (await client.recommend(asked)).session.interactions == 1
        assert list((await client.interactions(user)).interactions) == ["a cup/of ß?"]
        assert (await client.models()).models
    async with AsyncClient(url, KEY, model_id="shop") as client:
        with pytest.raises(NotFound):
            await client.trending()


async def test_an_anonymous_user_is_merged(call: Call, user: str) -> None:
    sent = await call("send_events", [rating(f"anon-{user}", "tea")])
    merged = await call("merge", user, MergeRequest(from_=f"anon-{user}", timeout_ms=10_000))
    assert (sent.accepted, merged.interactions) == (1, 1)
    asked = RecommendationRequest(user_id=user, after=merged.tokens, timeout_ms=10_000)
    assert (await call("recommend", asked)).session.interactions == 1


async def test_each_event_has_its_outcome(call: Call, user: str) -> None:
    events = [rating(user, "tea"), rating(user, "tea", rating=9_999.0), rating(user, "cup")]
    sent = await call("send_events", events)
    assert [type(outcome) for outcome in sent.events] == [
        AcceptedEvent,
        RefusedEvent,
        AcceptedEvent,
    ]
    assert [outcome.event_id for outcome in sent.events] == [event.event_id for event in events]
    assert sent.events[1].field == "rating"
    # Where all are wrong the server answers 422; they have their outcomes all the same.
    one = await call("send_event", rating(user, "tea", rating=9_999.0))
    assert isinstance(one, RefusedEvent)
    assert one.field == "rating"
    none = await call("send_events", [])
    assert none.events == []


async def test_more_events_than_one_call_takes_are_sent_in_several(call: Call, user: str) -> None:
    events = [rating(user, f"item-{n}") for n in range(5_001)]
    sent = await call("send_events", iter(events))
    assert (sent.accepted, len(sent.events)) == (5_001, 5_001)
    assert [outcome.event_id for outcome in sent.events] == [event.event_id for event in events]


async def test_a_refusal_is_an_exception_of_its_kind(call: Call, user: str) -> None:
    with pytest.raises(Invalid) as invalid:
        await call("recommend", RecommendationRequest(user_id=user, k=501))
    assert invalid.value.problem.errors[0].field == "k"
    assert "501" in str(invalid.value)
    with pytest.raises(NotFound):
        await call("item", "there is none")
    asked = RecommendationRequest(user_id=user, after="clicks.0.99999999", timeout_ms=0)
    with pytest.raises(Stale) as stale:
        await call("recommend", asked)
    assert stale.value.missing == ["clicks.0.99999999"]
    assert stale.value.answer is not None
    assert stale.value.answer.session.interactions == 0


async def test_the_key_opens_and_is_not_shown(url: str) -> None:
    with Client(url, "another") as client, pytest.raises(Unauthorized) as refused:
        client.trending()
    assert "another" not in f"{refused.value}{client!r}"


async def test_a_server_that_is_not_there_is_named() -> None:
    twice = Retries(attempts=2, first_s=0.01)
    named = pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9 does not answer")
    with Client("http://127.0.0.1:9", retries=twice) as client, named as away:
        client.trending()
    assert away.value.not_sent


async def test_the_rest_of_the_calls(call: Call, user: str) -> None:
    item = f"item of {user}"
    assert (await call("put_item", item, ItemBody(title="A cup", price=3.5))).accepted == 1
    assert (await call("item", item)).price == 3.5
    assert (await call("put_items", [Item(item_id=item, categories=["china"])])).accepted == 1
    assert (await call("item", item)).categories == ["china"]
    assert (await call("similar", item, k=3)).message
    assert (await call("bought_together", item)).items == []
    assert isinstance((await call("trending", k=5)).items, list)

    await call("hide", user, item)
    assert list((await call("hidden", user)).items) == [item]
    await call("unhide", user, item)
    assert (await call("hidden", user)).items == {}
    assert (await call("delete_item", item)).accepted == 1

    # No steps up in a path.
    for dots in (".", ".."):
        await call("put_item", dots, ItemBody(title=dots))
        assert (await call("item", dots)).title == dots
        await call("delete_item", dots)

    token = await call("create_token", user, TokenRequest(scopes=["recommend"], expires_s=60))
    assert token.user_id == user
    await call("erase", user)
    assert (await call("interactions", user)).interactions == {}

    assert "default" in [model.id for model in (await call("models")).models]
    assert (await call("versions", "default")).versions == []
    asked = TrainingRequest(reason="a new season", idempotency_key=uuid.uuid4().hex)
    task = await call("train", "default", asked)
    assert (await call("train", "default", asked)).id == task.id
    assert (await call("task", task.id)).reason == "a new season"
    assert task.id in [each.id for each in (await call("tasks", kind="retrieval")).tasks]
    assert (await call("cancel", task.id)).status == "CANCELLED"
    assert (await call("tasks", status="QUEUED", limit=5)).tasks == []
    assert (await call("ready")).ready
    version = "20240101T000000Z-00000a"
    for name in ("activate", "pin", "delete_version"):
        with pytest.raises(NotFound):
            await call(name, "default", version)
    other = f"of-{user}"
    assert (await call("create_model", other)).id == other
    await call("delete_model", other)
    with pytest.raises(Conflict):
        await call("unpin", other)
    with pytest.raises(NotFound):
        await call("task_log", uuid.uuid4().hex)
    with pytest.raises(Exception, match="no other version"):
        await call("roll_back", "default")


def test_a_stream_gives_a_list_at_once_and_another_when_the_session_changes(
    url: str, user: str
) -> None:
    with Client(url, KEY) as client:
        updates = client.stream(
            user, k=3, category="Drinks", diversity=0.5, explain=True, stability=2
        )
        assert next(updates).answer.session.interactions == 0
        client.send_event(click(user, "tea"))
        assert any(update.answer.session.interactions == 1 for update in updates)
        updates.close()
        with pytest.raises(Invalid):
            next(client.stream(user, k=501))


def test_both_kinds_have_the_same_methods() -> None:
    methods = [
        {name: _plain(method) for name, method in vars(kind).items() if not name.startswith("_")}
        for kind in (Client, AsyncClient)
    ]
    assert methods[0] == methods[1]


def _plain(method: Any) -> str:
    return str(inspect.signature(method)).replace("Async", "")
