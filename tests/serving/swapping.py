"""Swapping versions under load: no request fails, and every answer is of one version."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
from parts import Part, eventually
from serving_tools import V1, V2, ring

from headrace.local.ports import claim_port
from headrace.producer import Producer
from headrace.settings import ServingSettings, Settings
from headrace.store import connect
from headrace.topics import ensure_topics
from headrace.version_store import VersionStore
from headrace.versions import Manifest, read_manifest
from models.retrieval.artifact import file_digests, load_artifact
from models.retrieval.probes import ask_probes
from models.retrieval.retriever import Retriever

ASKERS = 4
SESSION = {ring(number): {"timestamp": number} for number in (1, 2, 3)}


GROWTH = 32 << 20
"""Bytes by which the server's memory may differ: what an allocator keeps for itself."""


async def check_swaps(
    settings: Settings,
    add_version: Callable[[str], Path],
    folder: Path,
    *,
    swaps: int,
    warm: int,
) -> None:
    """Run a server, and swap two versions under it; its memory is first looked at after `warm`."""
    add_version(V1)
    recalibrated(add_version(V2))
    await asyncio.to_thread(ensure_topics, settings)
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    serving = ServingSettings(port=port, follow_s=0.02)
    settings = msgspec.structs.replace(settings, serving=serving)
    url = f"http://127.0.0.1:{port}"
    with Part("serve", settings, folder) as server:
        async with httpx.AsyncClient(base_url=url) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready, "the server is ready")
        before, after = await _swap(settings, url, pid_of(server), swaps, warm)
    print(f"{swaps} swaps: {before >> 20} MB after {warm}, {after >> 20} MB at the end")
    assert after - before < GROWTH


async def _swap(settings: Settings, url: str, pid: int, swaps: int, warm: int) -> tuple[int, int]:
    """Swap two versions so many times while clients ask; return memory after `warm`, and at last.

    In bytes. The versions score differently, so an answer of two versions would show.
    """
    redis, producer = connect(settings), Producer(settings)
    store = VersionStore(redis, settings, producer)
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
            said = {version: await _alone(client, store, version) for version in (V1, V2)}
            assert said[V1] != said[V2]
            done = asyncio.Event()
            askers = [asyncio.create_task(_ask(client, said, done)) for _ in range(ASKERS)]
            before = 0
            for number in range(swaps):
                version = (V1, V2)[number % 2]
                await store.activate("default", version, now=float(number), reason="a test")
                await eventually(partial(_has, client, version), f"swap {number}")
                if number + 1 == warm:
                    before = memory(pid)
            done.set()
            asked = await asyncio.gather(*askers)
            assert min(asked) > swaps // 10
            assert (await client.get("/readyz")).json()["refused"] is None
            return before, memory(pid)
    finally:
        await producer.close()
        await redis.aclose()


async def _alone(client: httpx.AsyncClient, store: VersionStore, version: str) -> Any:
    """Return what a version answers while nothing is swapped."""
    await store.activate("default", version, now=0.0, reason="a test")
    await eventually(lambda: _has(client, version), f"{version} is live")
    return (await _answer(client))["recommendations"]


async def _ask(client: httpx.AsyncClient, said: dict[str, Any], done: asyncio.Event) -> int:
    asked = 0
    while not done.is_set():
        answer = await _answer(client)
        assert answer["recommendations"] == said[answer["model"]["version"]]
        asked += 1
    return asked


async def _answer(client: httpx.AsyncClient) -> Any:
    answer = await client.post("/v1/recommendations", json={"user_interactions": SESSION})
    assert answer.status_code == 200, answer.text
    assert answer.json()["message"] is None
    return answer.json()


async def _has(client: httpx.AsyncClient, version: str) -> bool:
    return bool((await client.get("/readyz")).json()["model"] == version)


def memory(pid: int) -> int:
    """Return the bytes of a process that are in memory."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return 1_024 * int(found[1])


def recalibrated(folder: Path) -> None:
    """Let a version score otherwise, consistently: its probes are answered anew."""
    path = folder / "calibration.json"
    found = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**found, "intercept": found["intercept"] + 0.5}))
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, msgspec.structs.replace(manifest, files=file_digests(folder)))
    artifact = load_artifact(folder)
    probes = ask_probes(Retriever(artifact), artifact.item_ids)
    (folder / "probes.json").write_bytes(msgspec.json.encode(probes))
    write_manifest(folder, msgspec.structs.replace(manifest, files=file_digests(folder)))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def pid_of(server: Part) -> int:
    """Return the process id of a part."""
    assert server._process is not None
    return server._process.pid
