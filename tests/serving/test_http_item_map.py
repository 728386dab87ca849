"""The map of the live version's items, and an item's popularity, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from redis.asyncio import Redis
from serving_tools import RING, V1, activate, check_problem, ring

from headrace.popularity import PopularityStore
from headrace.settings import Settings
from headrace.versions import Manifest, read_manifest

Versions = Callable[[str], Path]


async def test_items_that_follow_one_another_lie_near_one_another(
    live: httpx.AsyncClient,
) -> None:
    await live.put(f"/v1/items/{ring(3)}", json={"title": "<b>Three", "categories": ["a", "b"]})
    await live.delete(f"/v1/items/{ring(4)}")
    told = (await live.get("/v1/models/default/map")).json()
    assert told["model"] == {"id": "default", "version": V1}
    assert told["count"] == RING
    assert 0 < told["explained"] <= 1
    assert sorted(told["ids"]) == sorted(ring(n) for n in range(RING) if n != 4)
    at = told["ids"].index(ring(3))
    assert (told["titles"][at], told["categories"][at]) == ("<b>Three", "a")
    place = {
        item: np.array(point)
        for item, *point in zip(told["ids"], told["x"], told["y"], strict=True)
    }
    # A ring is laid out as one: neighbours are nearer than what lies across.
    near = np.mean([np.linalg.norm(place[ring(n)] - place[ring(n + 1)]) for n in range(5, 39)])
    far = np.mean([np.linalg.norm(place[ring(n)] - place[ring(n + 20)]) for n in range(5, 19)])
    assert near < far / 2
    few = (await live.get("/v1/models/default/map", params={"limit": 5})).json()
    assert few["ids"] == told["ids"][:5]
    check_problem(await live.get("/v1/models/default/map", params={"limit": 0}), 422, "limit: ")


async def test_where_there_is_no_map_it_says_so(
    client: httpx.AsyncClient, add_version: Versions
) -> None:
    check_problem(await client.get("/v1/models/default/map"), 404, "no live version")
    folder = add_version(V1)
    manifest = read_manifest(folder)
    assert manifest is not None
    _write(folder, manifest, {name: of for name, of in manifest.files.items() if name != "map.npy"})
    (folder / "map.npy").unlink()
    await activate(client, V1)
    check_problem(await client.get("/v1/models/default/map"), 404, "has no map")


async def test_a_map_that_was_changed_is_refused(
    live: httpx.AsyncClient, settings: Settings
) -> None:
    path = Path(settings.artifacts) / "default" / V1 / "map.npy"
    np.save(path, np.load(path) + 1)
    check_problem(await live.get("/v1/models/default/map"), 409, "map.npy has not the sha256")


def _write(folder: Path, manifest: Manifest, files: dict[str, str]) -> None:
    changed = msgspec.structs.replace(manifest, files=files)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(changed))


@pytest.mark.parametrize("stem", ["/v1", "/v1/models/default"])
async def test_how_often_an_item_was_met(
    client: httpx.AsyncClient, redis: Redis, settings: Settings, stem: str
) -> None:
    path = f"{stem}/items/tea/popularity"
    assert (await client.get(path)).json() == {
        "item_id": "tea", "step_s": 86_400, "at": [], "events": []
    }  # fmt: skip
    await PopularityStore(redis, settings).add({"hour": {10: {"tea": 3}, 12: {"mug": 1}}})
    told = (await client.get(path, params={"step": "hour"})).json()
    assert (told["at"], told["events"]) == ([36_000, 39_600, 43_200], [3, 0, 0])
    check_problem(await client.get(path, params={"step": "week"}), 422, "step: Expected one of")
