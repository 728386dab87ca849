"""The OpenAPI document, held against a real server by schemathesis: nothing in it may be untrue."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from parts import Part, eventually
from serving_tools import V1, activate, ring, walk

from headrace.local.ports import claim_port
from headrace.sessions import SessionStore
from headrace.settings import ServingSettings, Settings
from headrace.topics import ensure_topics
from serving.cursor import write_cursor

KEY = "a key of the contract's own"
CONFIG = Path(__file__).parent / "schemathesis.toml"
EXAMPLES = 15
"""Made up for each operation, beside those of the document and of each constraint's edges."""
OF_A_VERSION = (
    "/(recommendations|similar|bought-together|trending|popularity|interactions|hidden|map)$"
)
"""What a live version, sessions and items change."""


@asynccontextmanager
async def serving(settings: Settings, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Run a server; give a client of it. Its log may tell of no fault."""
    ensure_topics(settings)
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    settings = msgspec.structs.replace(settings, api_key=KEY, serving=ServingSettings(port=port))
    headers = {"authorization": f"Bearer {KEY}"}
    with Part("serve", settings, folder) as server:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers
        ) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready, "the server is ready")
            yield client
        log = server.log()
    assert "Traceback" not in log


async def check(client: httpx.AsyncClient, folder: Path, *options: str, **known: Any) -> None:
    """Hold the document against the server; `known` is what `contract_hooks` has it asked for."""
    command = (
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run",
        f"{client.base_url}/openapi.json", "--header", f"Authorization: Bearer {KEY}",
        "--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1", "--continue-on-failure",
        "--generation-database", "none", "--no-color", *options,
    )  # fmt: skip
    hooks = {
        "SCHEMATHESIS_HOOKS": str(CONFIG.with_name("contract_hooks.py")),
        "CONTRACT_KNOWN": json.dumps(known),
    }
    run = await asyncio.to_thread(
        subprocess.run,
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **hooks},
        timeout=240,
    )
    assert run.returncode == 0, run.stdout + run.stderr


async def test_the_document_tells_the_truth(settings: Settings, tmp_path: Path) -> None:
    async with serving(settings, tmp_path) as client:
        await check(client, tmp_path)


async def test_it_does_of_a_live_version(
    settings: Settings,
    sessions: SessionStore,
    add_version: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    add_version(V1)
    known = {
        "user_id": "42",
        "item_id": ring(3),
        "filter": {"categories": {"any": ["ring"]}, "price": {"lt": 20}},
        "cursor": write_cursor([ring(7), ring(8)]),
    }
    async with serving(settings, tmp_path) as client:
        items = [
            {"item_id": ring(number), "categories": ["ring"], "price": number}
            for number in range(30)
        ]
        assert (await client.post("/v1/items", json=items)).status_code == 202
        await activate(client, V1)
        await walk(sessions, "42", 3, 4, 5)
        asked = {**known, "explain": True, "diversity": 0.5}
        del asked["item_id"]
        answer = (await client.post("/v1/recommendations", json=asked)).json()
        assert answer["model"]["version"] == V1
        assert all(each["because"] for each in answer["recommendations"])
        assert answer["cursor"]
        await check(client, tmp_path, "--include-path-regex", OF_A_VERSION, **known)
