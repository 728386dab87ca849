"""`GET /v1/trending`: all that is trending, or what is of a category by the catalogue as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from events_log import NOW, logged
from parts import eventually
from redis.asyncio import Redis
from serving_tools import V1, activate, check_problem, ring

from headrace.aggregates import AggregateStore
from headrace.settings import Settings


async def trending(client: httpx.AsyncClient, **params: Any) -> dict[str, Any]:
    answer = await client.get("/v1/trending", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["id"] for row in answer["items"]]


async def put(client: httpx.AsyncClient, item_id: str, *categories: str) -> None:
    answer = await client.put(f"/v1/items/{item_id}", json={"categories": categories})
    assert answer.status_code == 202


async def meet(redis: Redis, settings: Settings, *item_ids: str) -> None:
    """Let each item be met once, the first twice, the second three times and so on."""
    rows = [item_id for n, item_id in enumerate(item_ids) for _ in range(n + 1)]
    await AggregateStore(redis, settings).apply(
        [logged(n, f"u{n}", item_id, NOW) for n, item_id in enumerate(rows)]
    )


@pytest.mark.parametrize("with_model", [False, True])
async def test_a_category_s_items_are_those_of_the_whole_list_in_its_order(
    client: httpx.AsyncClient,
    redis: Redis,
    settings: Settings,
    add_version: Callable[[str], Path],
    with_model: bool,
) -> None:
    if with_model:
        add_version(V1)
        await activate(client, V1)
    for number in range(6):
        await put(client, ring(number), "all", "even" if number % 2 == 0 else "odd & more")
    await put(client, "new", "even")
    await meet(redis, settings, *map(ring, range(5)), "not-in-the-catalogue", "new")

    async def read() -> bool:
        return len(ids(await trending(client))) == 7

    await eventually(read, "trending items are read")
    everything = {row["id"]: row["score"] for row in (await trending(client))["items"]}
    assert list(everything)[:2] == ["new", "not-in-the-catalogue"]
    even = await trending(client, category="even")
    # Met 7, 5, 3 and 1 times of 28.
    assert ids(even) == ["new", ring(4), ring(2), ring(0)]
    scores = [row["score"] * 28 for row in even["items"]]
    assert scores == pytest.approx([7, 5, 3, 1])
    assert {row["id"]: row["score"] for row in even["items"]}.items() <= everything.items()
    assert even["message"] is None
    assert ids(await trending(client, category="odd & more")) == [ring(3), ring(1)]
    assert ids(await trending(client, category="even", k=2)) == ["new", ring(4)]
    # The very letters count.
    nothing = await trending(client, category="Even")
    assert (nothing["items"], nothing["message"]) == (
        [], "No item of the catalogue has this category.",
    )  # fmt: skip
    await put(client, ring(5), "untouched")
    assert (await trending(client, category="untouched"))["message"] == (
        "No item of this category is trending."
    )
    # From the answer on.
    assert (await client.delete(f"/v1/items/{ring(4)}")).status_code == 202
    assert ids(await trending(client, category="even")) == ["new", ring(2), ring(0)]
    await put(client, ring(1), "even")

    async def moved() -> bool:
        return ring(1) in ids(await trending(client, category="even"))

    await eventually(moved, "the item is in its new category")
    assert ids(await trending(client, category="odd & more")) == [ring(3)]


async def test_beyond_the_whole_list_a_category_has_its_own(
    client: httpx.AsyncClient, redis: Redis, settings: Settings
) -> None:
    limit = settings.trending.limit
    await AggregateStore(redis, settings).apply(
        [
            logged(n, f"u{n}", f"common-{n % limit}", NOW, partition=partition)
            for partition in range(2)
            for n in range(2 * limit - 20 * (partition == 1))
        ]
    )
    await AggregateStore(redis, settings).apply(
        [logged(n, f"u{n}", f"rare-{n}", NOW, partition=2) for n in range(5)]
    )
    for n in range(5):
        await put(client, f"rare-{n}", "rare")

    async def read() -> bool:
        return len(ids(await trending(client, category="rare"))) == 5

    await eventually(read, "trending items are read")
    assert not any(at.startswith("rare") for at in ids(await trending(client, k=500)))


@pytest.mark.parametrize("category", ["", "x" * 129])
async def test_what_is_no_category_is_refused(client: httpx.AsyncClient, category: str) -> None:
    answer = await client.get("/v1/trending", params={"category": category})
    problem = check_problem(answer, 422)
    assert problem["errors"][0]["field"] == "category"
