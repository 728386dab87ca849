"""The OpenAPI document, held against a real server by schemathesis: nothing in it may be untrue."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
from parts import Part, eventually

from headrace.local.ports import claim_port
from headrace.settings import ServingSettings, Settings
from headrace.topics import ensure_topics

KEY = "a key of the contract's own"
CONFIG = Path(__file__).parent / "schemathesis.toml"
EXAMPLES = 15
"""Made up for each operation, beside those of the document and of each constraint's edges."""


async def test_the_document_tells_the_truth(settings: Settings, tmp_path: Path) -> None:
    ensure_topics(settings)
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    settings = msgspec.structs.replace(settings, api_key=KEY, serving=ServingSettings(port=port))
    url = f"http://127.0.0.1:{port}"
    with Part("serve", settings, tmp_path) as server:
        async with httpx.AsyncClient(base_url=url) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready, "the server is ready")
        command = (
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run",
            f"{url}/openapi.json", "--header", f"Authorization: Bearer {KEY}", "--checks", "all",
            "--max-examples", str(EXAMPLES), "--seed", "1", "--continue-on-failure",
            "--generation-database", "none", "--no-color",
        )  # fmt: skip
        run = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": str(CONFIG.with_name("contract_hooks.py"))},
            timeout=240,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        log = server.log()
    assert "Traceback" not in log
