"""What is similar comes from the model of item-to-item towers, once there is one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
from parts import eventually
from serving_tools import V1, check_problem, ring

from headrace.settings import Settings
from headrace.versions import Manifest
from models.retrieval.artifact import file_digests, load_artifact
from models.retrieval.probes import ask_probes
from models.retrieval.retriever import Retriever


async def test_the_towers_answer_when_they_are_live(
    live: httpx.AsyncClient, add_version: Callable[[str], Path], settings: Settings
) -> None:
    path = f"/v1/items/{ring(4)}/similar"
    before = (await live.get(path, params={"k": 5})).json()["items"]

    # The same version as one of the kind `items`: it says what follows, not which vectors are near.
    folder = Path(settings.artifacts) / "items" / V1
    shutil.copytree(Path(settings.artifacts) / "default" / V1, folder)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    of_items = msgspec.structs.replace(manifest, model_id="items", kind="items")
    (folder / "manifest.json").write_bytes(msgspec.json.encode(of_items))
    # It answers its probes in another way now.
    artifact = load_artifact(folder)
    probes = ask_probes(Retriever(artifact), artifact.item_ids)
    (folder / "probes.json").write_bytes(msgspec.json.encode(probes))
    of_items = msgspec.structs.replace(of_items, files=file_digests(folder))
    (folder / "manifest.json").write_bytes(msgspec.json.encode(of_items))
    response = await live.post(f"/v1/models/items/versions/{V1}/activate", json={})
    assert response.status_code == 200, response.text

    async def similar() -> list[dict[str, object]]:
        items: list[dict[str, object]] = (await live.get(path, params={"k": 5})).json()["items"]
        return items

    async def changed() -> bool:
        return await similar() != before

    await eventually(changed, "the towers answer")
    after = await similar()
    # Nearly everyone meets item n + 1 after item n, and the rules have a share above a half.
    assert after[0]["id"] == ring(5)
    assert ring(4) not in [each["id"] for each in after]

    # What is deleted is in no answer, and an item that nobody knows has none.
    assert (await live.delete(f"/v1/items/{ring(5)}")).status_code == 202
    after = await similar()
    assert ring(5) not in [each["id"] for each in after]
    check_problem(await live.get("/v1/items/unheard/similar"), 404, "'unheard'")
    # Recommendations come from the served model, as before.
    answer = await live.post(
        "/v1/recommendations", json={"user_interactions": {ring(1): {"timestamp": 1}}}
    )
    assert answer.json()["model"] == {"id": "default", "version": V1}
