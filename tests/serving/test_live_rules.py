"""Rules follow what users do, without a training: each event in a version's own rules or beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from events_log import fold_transitions, logged
from parts import eventually
from redis.asyncio import Redis
from serving_tools import RING, V1, V2, activate, ring, until_live, walk

from headrace.aggregates import AggregateStore
from headrace.sessions import LoggedEvent, Session, SessionStore
from headrace.settings import Settings
from headrace.topics import Place
from headrace.transitions import Transition, TransitionStore
from headrace.versions import TrainingData
from models.retrieval import Artifact, Retriever, load_artifact
from serving.live_rules import RulesFollower, trained_through

THROUGH = 480
"""Up to where the trained version has read partition 0 of ratings."""


class Kept(TransitionStore):
    """Transitions, and the way to keep them."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        super().__init__(redis, settings)
        self._aggregates = AggregateStore(redis, settings)

    async def apply(self, events: Sequence[LoggedEvent]) -> int:
        return await self._aggregates.apply(events)


@pytest.fixture
def transitions(redis: Redis, settings: Settings) -> Kept:
    return Kept(redis, settings)


def pairs(source: str, target: str, first: int, count: int, **fields: Any) -> list[LoggedEvent]:
    """As many users go from one item to the other, from this offset on."""
    return [
        logged(first + 2 * n + step, f"other {first + n}", item, **fields)
        for n in range(count)
        for step, item in enumerate((source, target))
    ]


async def recommended(client: httpx.AsyncClient, user_id: str, k: int = RING) -> dict[str, float]:
    answer = await client.post("/v1/recommendations", json={"user_id": user_id, "k": k})
    assert answer.status_code == 200, answer.text
    return {each["id"]: each["score"] for each in answer.json()["recommendations"]}


async def first_item(client: httpx.AsyncClient, user_id: str) -> str:
    (item_id,) = await recommended(client, user_id, k=1)
    return item_id


async def test_what_others_do_moves_a_users_list_without_a_training(
    live: httpx.AsyncClient,
    transitions: Kept,
    sessions: SessionStore,
    add_version: Callable[[str], Path],
) -> None:
    await walk(sessions, "ann", 3)
    await walk(sessions, "bob", 8)
    anns, bobs = await first_item(live, "ann"), await first_item(live, "bob")
    target = ring(25)
    assert target not in (anns, bobs)
    await transitions.apply(pairs(ring(3), target, 0, 2_000))

    async def moved() -> bool:
        return await first_item(live, "ann") == target

    await eventually(moved, "the list knows what others do")
    assert await first_item(live, "bob") == bobs
    assert (await live.get("/readyz")).json()["model"] == V1
    # Another version that is taken up, or taken up again, knows it when it is swapped in.
    add_version(V2)
    await activate(live, V2)
    assert await first_item(live, "ann") == target
    assert (await live.post("/v1/models/default/rollback")).status_code == 200
    await until_live(live, V1)
    assert await first_item(live, "ann") == target


@pytest.fixture(scope="module")
def artifact(trained: Path) -> Artifact:
    """The trained version, as if it had read a topic whose id is `first`."""
    artifact = load_artifact(trained)
    data = msgspec.structs.replace(artifact.manifest.data, topic_ids={"ratings": "first"})
    return replace(artifact, manifest=msgspec.structs.replace(artifact.manifest, data=data))


def of_log(log: Sequence[LoggedEvent]) -> list[Transition]:
    return [
        Transition(
            place.topic,
            place.topic_id,
            place.partition,
            int(entry_id.partition(b"-")[0]),
            fields[b"item"].decode(),
            tuple(filter(None, fields[b"previous"].decode().split("\n"))),
        )
        for place, entries in fold_transitions(log).items()
        for entry_id, fields in entries
    ]


def lists(retriever: Retriever) -> list[Any]:
    """What the retriever answers to whom has met one item."""
    return [
        retriever.recommend(Session((ring(n),), (1.0,), ("rating",), (5.0,)), 40) for n in range(40)
    ]


async def test_what_the_version_was_trained_on_is_not_counted_again(
    artifact: Artifact, transitions: Kept
) -> None:
    # A user who walks on over the end of what was trained on: of the items before the end, those
    # in reach count for the event after it.
    log = [
        *pairs(ring(3), ring(20), 0, 200),
        *[logged(THROUGH - 5 + n, "ann", ring(5 * n)) for n in range(12)],
        *pairs(ring(3), ring(30), THROUGH + 20, 1_000),
        *pairs(ring(7), ring(1), 0, 60, partition=1),
        *pairs(ring(7), ring(2), 0, 60, kind="click"),
    ]
    await transitions.apply(log)
    follower = RulesFollower(transitions, followed := Retriever(artifact))
    await follower.catch_up()
    new = [
        each
        for each in of_log(log)
        if (each.topic, each.partition) != ("ratings", 0) or each.offset >= THROUGH
    ]
    assert len(new) == len(log) - 400 - 5
    by_hand = Retriever(artifact)
    by_hand.learn(new)
    assert lists(followed) == lists(by_hand) != lists(Retriever(artifact))
    # Once.
    await transitions.apply(log)
    await follower.catch_up()
    assert lists(followed) == lists(by_hand)


async def test_a_topic_made_anew_is_new_from_its_beginning(
    artifact: Artifact, transitions: Kept
) -> None:
    old = pairs(ring(3), ring(20), 0, 100)
    new = pairs(ring(3), ring(20), 0, 100, topic_id="second")
    await transitions.apply(old)
    follower = RulesFollower(transitions, followed := Retriever(artifact))
    await follower.catch_up()
    assert lists(followed) == lists(Retriever(artifact))
    await transitions.apply(new)
    await follower.catch_up()
    by_hand = Retriever(artifact)
    by_hand.learn([each for each in of_log([*old, *new]) if each.topic_id == "second"])
    assert lists(followed) == lists(by_hand)


def test_how_far_a_version_knows_each_topic(artifact: Artifact) -> None:
    data = artifact.manifest.data
    assert trained_through(data) == {Place("ratings", "first", 0): THROUGH - 1}
    more: TrainingData = msgspec.structs.replace(
        data,
        through={"ratings": {"0": 5, "3": 0}, "clicks": {"1": 7}, "purchases": {"0": 9}},
        topic_ids={"ratings": "r", "clicks": "c"},
    )
    assert trained_through(more) == {
        Place("ratings", "r", 0): 4,
        Place("ratings", "r", 3): -1,
        Place("clicks", "c", 1): 6,
    }


async def test_items_that_the_version_does_not_know_are_passed_over(
    live: httpx.AsyncClient, transitions: Kept, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 3)
    before = await recommended(live, "ann")
    # Other users each time: none of them goes on from item 3 to an item that is known.
    await transitions.apply(pairs(ring(3), "nobody's", 0, 50))
    await transitions.apply(pairs("nobody's", ring(25), 100, 50, kind="click"))
    await walk(sessions, "bob", 8)
    await transitions.apply(pairs(ring(8), ring(25), 200, 2_000, kind="purchase"))

    async def moved() -> bool:
        return await first_item(live, "bob") == ring(25)

    await eventually(moved, "what came after is learnt")
    assert await recommended(live, "ann") == pytest.approx(before)


async def test_who_is_deleted_has_no_last_items(
    client: httpx.AsyncClient, transitions: Kept
) -> None:
    await transitions.apply([logged(0, "ann", "a")])
    assert (await client.delete("/v1/users/ann")).status_code == 204
    await transitions.apply([logged(1, "ann", "b")])
    _, found = await transitions.read_after({})
    assert [each.previous for each in found] == [(), ()]
