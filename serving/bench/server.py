"""Server processes that are measured, the shipped one and the plain one, and their clients."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import msgspec
import psutil

from headrace.errors import StackError
from headrace.local.ports import claim_port
from headrace.local.process import ChildProcess, last_lines
from headrace.local.stack import part_environ
from headrace.settings import Settings
from serving.bench.ground import Ground
from serving.bench.load import Load, Seen

_HOST = "127.0.0.1"
_LOOK_S = 0.02
_PATIENCE_S = 120.0
_STOP_WITHIN_S = 5.0
SHIPPED = (sys.executable, "-m", "headrace.cli", "serve")


@dataclass(frozen=True)
class Server:
    """A server that runs and answers."""

    port: int
    process: psutil.Process
    ready_s: float
    """From the start of the process until it called itself ready."""

    def cpu_s(self) -> float:
        """Return the processor time that it has used, in seconds."""
        return float(sum(self.process.cpu_times()[:2]))

    def rss_mb(self) -> float:
        """Return the memory that it holds, in MiB."""
        return float(self.process.memory_info().rss) / 2**20

    async def live(self) -> str | None:
        """Return the version that it has live; None for none, or without an answer."""
        return await _live(self.port)

    async def until_live(self, version: str) -> None:
        """Wait until it has this version live. Raises `StackError` when that takes too long."""
        began = time.perf_counter()
        while await self.live() != version:
            if time.perf_counter() - began > _PATIENCE_S:
                raise StackError(f"Version {version} is not live after {_PATIENCE_S:.0f} s.")
            await asyncio.sleep(_LOOK_S)

    async def roll_back(self, model_id: str, key: str) -> None:
        """Ask it for a rollback. Raises `StackError` when it refuses."""
        async with httpx.AsyncClient(trust_env=False, timeout=_PATIENCE_S) as client:
            answer = await client.post(
                f"http://{_HOST}:{self.port}/v1/models/{model_id}/rollback",
                headers={"Authorization": f"Bearer {key}"},
            )
        if answer.is_error:
            raise StackError(f"The rollback was answered with {answer.text}.")


@asynccontextmanager
async def shipped_server(ground: Ground, version: str) -> AsyncIterator[Server]:
    """A process of `headrace serve`, with this version live, until the block ends."""
    settings = _at_free_port(ground.settings)
    port = settings.serving.port

    async def is_ready() -> bool:
        return await _live(port) == version

    async with _started(ground, settings, SHIPPED, "server", is_ready) as server:
        yield server


@asynccontextmanager
async def plain_server(ground: Ground, body: str) -> AsyncIterator[Server]:
    """A process whose only route answers with this, until the block ends."""
    settings = _at_free_port(ground.settings)
    path = ground.logs / f"answer-{settings.serving.port}.json"
    path.write_text(body, encoding="utf-8")

    async def is_ready() -> bool:
        return await _get(settings.serving.port, "/") is not None

    command = (sys.executable, "-m", "serving.bench.plain", str(path))
    async with _started(ground, settings, command, "plain server", is_ready) as server:
        yield server


async def ask(ground: Ground, load: Load) -> Seen:
    """Run a client; return what it saw. Raises `StackError` when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "serving.bench.load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(ground.environ),
    )
    try:
        out, err = await process.communicate(msgspec.json.encode(load))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise StackError(f"The client failed:\n{err.decode(errors='replace')}")
    return msgspec.json.decode(out, type=Seen)


def _at_free_port(settings: Settings) -> Settings:
    port = claim_port(0, host=_HOST, use="a server", option="")
    return msgspec.structs.replace(
        settings,
        url=f"http://{_HOST}:{port}",
        serving=msgspec.structs.replace(settings.serving, port=port),
    )


@asynccontextmanager
async def _started(
    ground: Ground,
    settings: Settings,
    command: Sequence[str],
    name: str,
    is_ready: Callable[[], Awaitable[bool]],
) -> AsyncIterator[Server]:
    log = ground.logs / f"{name}-{settings.serving.port}.log"
    began = time.perf_counter()
    child = await ChildProcess.start(
        command, environ=part_environ(ground.environ, settings), log=log
    )
    try:
        process = psutil.Process(child.pid)
        while not await is_ready():
            waited = time.perf_counter() - began
            if waited > _PATIENCE_S or process.status() == psutil.STATUS_ZOMBIE:
                raise StackError(f"The {name} is not ready; its log:\n{last_lines(log)}")
            await asyncio.sleep(_LOOK_S)
        yield Server(settings.serving.port, process, time.perf_counter() - began)
    finally:
        await child.stop(_STOP_WITHIN_S)


async def _live(port: int) -> str | None:
    """Return the version that the server there calls live; None for none, or without an answer."""
    answer = await _get(port, "/readyz")
    return None if answer is None else answer.json().get("model")


async def _get(port: int, path: str) -> httpx.Response | None:
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://{_HOST}:{port}{path}")
    except httpx.HTTPError:
        return None
