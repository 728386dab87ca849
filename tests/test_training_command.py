"""`headrace train` and `headrace tasks` against a real server."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import msgspec
import pytest
from command_line import headrace
from parts import Part, eventually
from redis.asyncio import Redis

from headrace.local.ports import claim_port
from headrace.model_settings import ModelSettings
from headrace.settings import ServingSettings, Settings
from headrace.task_store import TaskStore
from headrace.topics import ensure_topics

CSV = "user,item_id,timestamp\nu,i,5\n"


async def test_trainings_are_asked_for_seen_and_cancelled(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    ensure_topics(settings)
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    settings = msgspec.structs.replace(
        settings,
        serving=ServingSettings(port=port),
        url=f"http://127.0.0.1:{port}",
        models={"other": ModelSettings()},
    )
    tasks = TaskStore(redis, settings)

    async def run(*arguments: str) -> tuple[int, str, str]:
        ended = await asyncio.to_thread(headrace, *arguments, **settings.environ())
        return ended.returncode, ended.stdout, ended.stderr

    async def ready() -> bool:
        try:
            async with httpx.AsyncClient(base_url=settings.url) as client:
                return (await client.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    with Part("serve", settings, tmp_path):
        await eventually(ready, "the server is ready")

        # 1. Every field reaches the task.
        asked = (
            "train --epochs 3 --learning-rate 0.001 --seed 5 --mode full --param width=32 --key k "
            "--from 2026-11-01T00:00+01:00 --to 1900000000 --reason nightly --force"
        )
        status, shown, _ = await run(*asked.split())
        assert status == 0
        [task] = await tasks.newest()
        assert task.id in shown
        assert "QUEUED 1." in shown
        assert (task.reason, task.requested_by) == ("nightly", "headrace train")
        assert task.params == {
            "epochs": 3, "learning_rate": 0.001, "seed": 5, "mode": "full", "force": True,
            "params": {"width": 32.0}, "from": "2026-11-01T00:00:00+01:00", "to": 1_900_000_000.0,
        }  # fmt: skip

        # 2. What the server refuses is said in its words.
        words = "The training is still in progress for the same model ID: default"
        assert await run("train") == (1, "", f"headrace: {words}\n")
        status, _, error = await run("train", "--model", "other", "--algorithm", "magic")
        assert (status, "retrieval has transformer" in error) == (1, True)
        status, _, error = await run("train", "--from", "nan")
        assert (status, "--from nan is no time" in error) == (1, True)
        status, _, error = await run("train", "--from", '{"clicks": {"0": 9, "x": 1}}')
        assert (status, "from.clicks: 'x' is no partition" in error) == (1, True)

        # 3. The log, and the end of it.
        claim = await tasks.claim(now=1.0)
        assert claim is not None
        await tasks.save_log(claim.task, claim.fence, b"epoch 1\nepoch 2\n")
        assert await run("tasks", task.id, "--log") == (0, "epoch 1\nepoch 2\n", "")
        assert "RUNNING" in (await run("tasks", "--status", "RUNNING"))[1]
        assert "no tasks" in (await run("tasks", "--status", "FAILED"))[1]
        assert "RUNNING" in (await run("tasks", task.id, "--cancel"))[1]
        assert await tasks.hold(claim.task, claim.fence) == "cancelled"
        cancelled = msgspec.structs.replace(claim.task, status="CANCELLED", step="cancelled")
        await tasks.finish(cancelled, claim.fence)
        assert re.search(rf"{task.id}.*CANCELLED", (await run("tasks"))[1])

        # 4. A file goes along; who waits hears how it ended.
        file = tmp_path / "events.csv"
        file.write_text(CSV)
        schema = '{"type": "click", "columns": {"user_id": "user"}}'
        waiting = asyncio.create_task(
            run("train", "--data", str(file), "--schema", schema, "--wait")
        )
        claim = None
        while claim is None:
            claim = await tasks.claim(now=1.0)
            await asyncio.sleep(0.05)
        kept = Path(settings.artifacts) / ".uploads" / claim.task.params["data"]["name"]
        assert kept.read_text() == CSV
        failed = msgspec.structs.replace(claim.task, status="FAILED", error="1 event is too few")
        await tasks.finish(failed, claim.fence)
        status, _, error = await waiting
        assert status == 1
        assert f"Task {claim.task.id} failed: 1 event is too few" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--epochs", "0"], "epochs: is 0; it must be a whole number from 1 to 1,000"),
        (
            ["train", "--learning-rate", "0.02"],
            "learning_rate: is 0.02; it must be a number from 0.0001 to 0.01",
        ),
        (
            ["train", "--train-split-ratio", "0.4"],
            "train_split_ratio: is 0.4; it must be a number from 0.5 to 0.99",
        ),
        (["train", "--from", "yesterday"], "--from yesterday is no time"),
        (["train", "--param", "width"], "--param width is not NAME=NUMBER"),
        (["train", "--param", "width=nan"], "--param width=nan is not NAME=NUMBER"),
        (["train", "--schema", "{"], "--schema { is not JSON"),
        (["train", "--data", "/nothing/here"], "/nothing/here cannot be read"),
        (["train", "--kind", "cube"], "'retrieval', 'items', 'ranking'"),
        (["tasks", "--log"], "Name the task"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_wrong_use_is_named_before_anything_is_asked(arguments: list[str], words: str) -> None:
    ended = headrace(*arguments, HEADRACE_URL="http://127.0.0.1:9")
    assert ended.returncode != 0
    # The command line's own words stand in a box, and are broken where it ends.
    assert words in " ".join(ended.stderr.replace("│", " ").split())
