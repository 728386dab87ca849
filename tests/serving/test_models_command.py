"""`headrace models` against a server: what it lists, and what it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
from command_line import headrace
from parts import Part, eventually
from serving_tools import V1, V2, V3

from headrace.local.ports import claim_port
from headrace.settings import ServingSettings, Settings
from headrace.topics import ensure_topics
from headrace.versions import Verdict, read_manifest


async def test_ops_choose_versions_on_the_command_line(
    settings: Settings, add_version: Callable[[str], Path], tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    for version in (V1, V2):
        add_version(version)
    reject(add_version(V3))
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    settings = msgspec.structs.replace(settings, serving=ServingSettings(port=port))
    url = f"http://127.0.0.1:{port}"
    environ = {"HEADRACE_URL": url, "COLUMNS": "250"}
    with Part("serve", settings, tmp_path):
        async with httpx.AsyncClient(base_url=url) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready, "the server is ready")

        async def said(*arguments: str, code: int = 0) -> str:
            ended = await asyncio.to_thread(headrace, *arguments, **environ)
            assert ended.returncode == code, ended.stderr
            return ended.stdout + ended.stderr

        assert "no live version to pin" in await said("models", "pin", code=1)
        for version in (V1, V2):
            assert await said("models", "activate", version) == f"{version} is live.\n"
        assert f"{V2} is live and stays" in await said("models", "pin")
        listed = await said("models")
        rows = {name: line for line in listed.splitlines() for name in (V1, V2, V3) if name in line}
        assert "before" in rows[V1]
        assert "live, pinned" in rows[V2]
        assert "rejected" in rows[V3]
        assert "gate: NDCG@10 is worse." in listed
        assert await said("models", "rollback") == f"{V1} is live.\n"
        await said("models", "unpin")
        assert "is live" in await said("models", "delete", V1, code=1)
        assert f"Version {V2} is deleted" in await said("models", "delete", V2)
        assert "Model default is deleted" in await said("models", "delete", "--yes")
        assert "default deleted" in await said("models")
        assert "was deleted" in await said("train", code=1)
        assert "headrace train --model default" in await said("models", "create", "default")
    public = await said("models", "key", str(tmp_path / "key.pem"))
    assert public.startswith("ed25519:")
    assert "exists" in await said("models", "key", str(tmp_path / "key.pem"), code=1)


def reject(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest is not None
    verdict = Verdict(
        accepted=False, reason="NDCG@10 is worse.", against=V2, live=V2, events=9, users=3,
        since=0.0, ndcg_at_10=0.1, baseline_ndcg_at_10=0.2, hr_at_10=0.1, baseline_hr_at_10=0.2,
        difference=-0.5, low=-0.6, high=-0.4, tolerance=0.02,
    )  # fmt: skip
    raw = msgspec.json.encode(msgspec.structs.replace(manifest, verdict=verdict))
    (folder / "manifest.json").write_bytes(raw)
