"""What a request may ask for: filters, exclusions, diversity, pages and reasons."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import pytest
from events_log import NOW, logged
from parts import eventually
from redis.asyncio import Redis
from serving_tools import RING, V1, Serve, check_problem, ring, until_live, walk
from test_http_recommendations import ids, recommend

from headrace.aggregates import AggregateStore
from headrace.catalog import CatalogStore, Item, ItemChange
from headrace.sessions import SessionStore
from headrace.settings import SessionSettings, Settings
from serving.cursor import write_cursor


@pytest.fixture
async def described(live: httpx.AsyncClient) -> httpx.AsyncClient:
    """The live server, whose items have a number, and the even ones a category of their own."""
    items = [
        {
            "item_id": ring(n),
            "categories": ["ring", "even"] if n % 2 == 0 else ["ring"],
            "attributes": {"number": n},
        }
        for n in range(RING)
    ]
    assert (await live.post("/v1/items", json=items)).status_code == 202
    return live


EVEN = {"categories": {"any": ["even"]}}
EVENS = {ring(n) for n in range(0, RING, 2)}


async def test_the_path_names_the_model(live: httpx.AsyncClient, sessions: SessionStore) -> None:
    await walk(sessions, "ann", 1, 2)
    asked = {"user_id": "ann", "k": 5}
    answer = await live.post("/v1/models/default/recommendations", json=asked)
    assert answer.status_code == 200
    assert ids(answer.json()) == ids(await recommend(live, **asked))
    other = await live.post("/v1/models/other/recommendations", json=asked)
    check_problem(other, 404, "'other'")
    check_problem(await live.post("/v1/models/No%2F/recommendations", json=asked), 422, "model_id")


async def test_excluded_items_are_left_out(live: httpx.AsyncClient, sessions: SessionStore) -> None:
    await walk(sessions, "ann", 1, 2)
    everything = await recommend(live, user_id="ann", k=RING)
    without = ids(everything)[:3]
    answer = await recommend(live, user_id="ann", k=5, exclude_ids=[*without, "nobody's"])
    assert ids(answer) == ids(everything)[3:8]
    scores = [[each["score"] for each in of["recommendations"]] for of in (answer, everything)]
    assert scores[0] == pytest.approx(scores[1][3:8])
    candidates = [ring(3), "unheard of", ring(4)]
    ranked = await recommend(
        live, user_id="ann", candidate_ids=candidates, exclude_ids=[ring(3), "unheard of"]
    )
    assert ids(ranked) == [ring(4)]
    nobody = await recommend(live, user_id="nobody", k=RING, exclude_ids=without)
    assert set(ids(nobody)) == {ring(n) for n in range(RING)} - set(without)
    none = await recommend(live, user_id="ann", exclude_ids=[ring(n) for n in range(RING)])
    assert (ids(none), none["cursor"]) == ([], None)
    assert "exclude_ids" in none["message"]


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (EVEN, set(range(0, RING, 2))),
        ({"number": {"gte": 10, "lt": 13}}, {10, 11, 12}),
        ({"number": {"in": [7, 8]}, **EVEN}, {8}),
        ({"or": [{"number": {"eq": 5}}, {"item_id": {"eq": ring(6)}}]}, {5, 6}),
        ({"not": EVEN}, set(range(1, RING, 2))),
        ({"no such field": {"eq": 1}}, set()),
    ],
    ids=str,
)
async def test_a_filter_holds_of_every_item_of_every_kind_of_list(
    described: httpx.AsyncClient, sessions: SessionStore, asked: dict[str, Any], kept: set[int]
) -> None:
    await walk(sessions, "ann", 1, 2)
    matching = {ring(n) for n in kept}
    for user, met in (("ann", {ring(1), ring(2)}), ("nobody", set())):
        answer = await recommend(described, user_id=user, k=RING, filter=asked)
        assert set(ids(answer)) == matching - met
        assert answer["recommendations"] or "filter" in answer["message"]
        candidates = [ring(n) for n in range(RING)] + ["unheard of"]
        ranked = await recommend(
            described, user_id=user, k=RING, filter=asked, candidate_ids=candidates
        )
        assert set(ids(ranked)) == matching - met
        assert len(ids(await recommend(described, user_id=user, k=1, filter=asked))) == min(
            1, len(matching - met)
        )


async def test_a_filter_knows_a_change_of_the_catalogue_at_once(
    described: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 1, 2)
    asked = {"user_id": "ann", "k": 5, "filter": {"price": {"lt": 5}}}
    assert ids(await recommend(described, **asked)) == []
    for item_id in (ring(9), "quite new"):
        put = await described.put(f"/v1/items/{item_id}", json={"price": 4.5})
        assert put.status_code == 202
        assert item_id in ids(await recommend(described, **asked))
    await described.put(f"/v1/items/{ring(9)}", json={"price": 5.5})
    assert ids(await recommend(described, **asked)) == ["quite new"]
    await described.delete("/v1/items/quite%20new")
    assert ids(await recommend(described, **asked)) == []


async def test_without_a_model_filters_hold_of_trending_items_and_the_catalogue_fills_up(
    client: httpx.AsyncClient, redis: Redis, settings: Settings
) -> None:
    items = [Item(item_id=f"i{n}", attributes={"n": n}) for n in range(6)]
    changes = [ItemChange(item.item_id, item, "t", 0, n) for n, item in enumerate(items)]
    await CatalogStore(redis, settings).apply(changes)
    nobody = await recommend(client, user_id="nobody")
    assert sorted(ids(nobody)) == [f"i{n}" for n in range(6)]
    events = [logged(n, "bob", f"i{min(n, 7)}", NOW + n) for n in range(20)]
    await AggregateStore(redis, settings).apply(events)

    async def trends() -> bool:
        return ids(await recommend(client, user_id="nobody"))[0] == "i7"

    await eventually(trends, "trending items are read")
    # i7 and i6 trend, though the catalogue has neither: no filter holds of them.
    answer = await recommend(client, user_id="nobody", filter={"n": {"gte": 3}}, k=9)
    assert ids(answer) == ["i5", "i4", "i3"]
    assert "no model yet" in answer["message"]
    answer = await recommend(
        client, user_id="nobody", filter={"n": {"gte": 3}}, exclude_ids=["i4"], k=9
    )
    assert ids(answer) == ["i5", "i3"]
    ranked = await recommend(
        client, user_id="nobody", filter={"n": {"lt": 2}}, candidate_ids=["i0", "i5", "x", "i1"]
    )
    assert ids(ranked) == ["i0", "i1"]
    await client.delete("/v1/items/i5")
    answer = await recommend(client, user_id="nobody", filter={"n": {"gte": 3}}, k=9)
    assert ids(answer) == ["i4", "i3"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"filter": {}}, "filter"),
        ({"filter": {"price": {"lt": "x"}}}, "filter.price.lt"),
        ({"filter": {"or": [{"categories": {"eq": "x"}}]}}, "filter.or[0].categories"),
        ({"filter": []}, "filter"),
        ({"exclude_ids": [""]}, "exclude_ids[0]"),
        ({"exclude_ids": ["i"] * 10_001}, "exclude_ids"),
        ({"diversity": -0.1}, "diversity"),
        ({"diversity": 1.1}, "diversity"),
        ({"cursor": "not one"}, "cursor"),
        ({"cursor": "A" * 350_001}, "cursor"),
        ({"explain": 1}, "explain"),
    ],
    ids=range(11),
)
async def test_a_wrong_limit_is_told_which_field(
    client: httpx.AsyncClient, wrong: dict[str, Any], field: str
) -> None:
    asked = {"user_id": "u", **wrong}
    problem = check_problem(await client.post("/v1/recommendations", json=asked), 422)
    assert problem["errors"][0]["field"] == field


async def test_pages_repeat_nothing_while_the_session_changes(
    described: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 1, 2)
    shown: list[str] = []
    cursor, met = None, [1, 2]
    while True:
        answer = await recommend(described, user_id="ann", k=4, cursor=cursor)
        assert not set(ids(answer)) & set(shown)
        assert not set(ids(answer)) & {ring(n) for n in met}
        shown += ids(answer)
        cursor = answer["cursor"]
        if cursor is None:
            break
        # Meanwhile the user meets an item that has been shown.
        number = int(shown[-1].removeprefix("item-"))
        await walk(sessions, "ann", number, first=len(met))
        met.append(number)
    assert set(shown) == {ring(n) for n in range(RING)} - {ring(1), ring(2)}


@pytest.mark.parametrize(
    "asked",
    [
        {"user_id": "nobody"},
        {"user_id": "ann", "filter": EVEN},
        {"user_id": "ann", "diversity": 0.7},
        {"user_id": "ann", "candidate_ids": [ring(n) for n in range(20)] + ["x", "y"]},
        {"user_id": "nobody", "candidate_ids": [ring(n) for n in range(20)] + ["x", "y"]},
    ],
    ids=str,
)
async def test_pages_of_any_kind_of_list_end_with_all_of_it(
    described: httpx.AsyncClient, sessions: SessionStore, asked: dict[str, Any]
) -> None:
    await walk(sessions, "ann", 1, 2)
    whole = await recommend(described, **asked, k=500)
    assert whole["cursor"] is None
    pages, cursor = [], None
    while True:
        answer = await recommend(described, **asked, k=6, cursor=cursor)
        pages += ids(answer)
        cursor = answer["cursor"]
        assert len(ids(answer)) == 6 or cursor is None
        if cursor is None:
            break
    assert sorted(pages) == sorted(ids(whole))
    assert len(pages) == len(set(pages))
    if "diversity" not in asked:
        assert pages == ids(whole)


async def test_a_feed_that_cannot_go_on_says_so_by_having_no_cursor(
    live: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 1)
    cursor = write_cursor([f"other-{n}" for n in range(1_998)])
    answer = await recommend(live, user_id="ann", k=2, cursor=cursor)
    assert answer["cursor"] is not None
    last = await recommend(live, user_id="ann", k=2, cursor=answer["cursor"])
    assert (len(ids(last)), last["cursor"]) == (2, None)


async def test_a_diverse_list_has_the_best_first_and_the_scores_stay(
    live: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 1, 2)
    plain = await recommend(live, user_id="ann", k=RING)
    scores = {each["id"]: each["score"] for each in plain["recommendations"]}
    diverse = await recommend(live, user_id="ann", k=8, diversity=0.8)
    assert ids(diverse)[0] == ids(plain)[0]
    assert ids(diverse) != ids(plain)[:8]
    assert len(set(ids(diverse))) == 8
    for each in diverse["recommendations"]:
        assert each["score"] == pytest.approx(scores[each["id"]])
    assert ids(await recommend(live, user_id="ann", k=8, diversity=0)) == ids(plain)[:8]
    for asked in ({"user_id": "nobody"}, {"user_id": "ann", "candidate_ids": ["x", ring(4), "y"]}):
        answer = await recommend(live, **asked, diversity=1, k=3)
        assert len(set(ids(answer))) == 3


async def test_reasons_name_the_interactions_that_moved_an_item(
    live: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 20, 1, 2)
    await sessions.apply([logged(9, "ann", "unheard of", NOW)])
    plain = await recommend(live, user_id="ann", k=5)
    assert not any("because" in each for each in plain["recommendations"])
    answer = await recommend(live, user_id="ann", k=5, explain=True)
    assert ids(answer) == ids(plain)
    first = answer["recommendations"][0]
    assert first["because"][0]["id"] in (ring(1), ring(2))
    assert 0 < first["because"][0]["effect"] <= first["score"]
    for each in answer["recommendations"]:
        effects = [abs(reason["effect"]) for reason in each["because"]]
        assert effects == sorted(effects, reverse=True)
        assert {reason["id"] for reason in each["because"]} <= {ring(1), ring(2), ring(20)}
    ranked = await recommend(live, user_id="ann", candidate_ids=["x", ring(3)], explain=True)
    assert ["because" in each for each in ranked["recommendations"]] == [True, False]
    nobody = await recommend(live, user_id="nobody", explain=True)
    assert not any("because" in each for each in nobody["recommendations"])


async def test_a_request_takes_two_round_trips_at_the_most(
    settings: Settings, serve: Serve, described: httpx.AsyncClient, redis: Redis
) -> None:
    """Of a user who has met more than the dictionary holds, whatever else is asked."""
    small = msgspec.structs.replace(settings, sessions=SessionSettings(limit=3))
    await walk(SessionStore(redis, small), "ann", *range(12))
    asked = {"user_id": "ann", "k": 20, "filter": EVEN, "exclude_ids": [ring(13), ring(14)]}
    async with serve(small) as client:
        await until_live(client, V1)
        wanted = EVENS - {ring(n) for n in (*range(12), 14)}

        async def all_are_known() -> bool:
            return set(ids(await recommend(client, **asked))) == wanted

        await eventually(all_are_known, "the items' fields are known")
        commands = await read_of_the_user(
            redis, client, {**asked, "diversity": 0.5, "explain": True}
        )
    # The dictionary, its marks and what is hidden come by one script, what was met before after it.
    assert [command.split()[0] for command in commands] == ["EVAL", "ZRANGE"]


async def read_of_the_user(
    redis: Redis, client: httpx.AsyncClient, asked: dict[str, Any]
) -> list[str]:
    """The commands that the request sends to the user's keys."""
    commands: list[str] = []
    async with redis.monitor() as monitor:
        await recommend(client, **asked)
        await redis.echo("done")
        while True:
            told = await asyncio.wait_for(monitor.next_command(), 10)
            command = told["command"]
            if command.startswith("ECHO done"):
                return commands
            # What a script does takes no round trip.
            if "{ann}" in command and told["client_type"] != "lua":
                commands.append(command)
