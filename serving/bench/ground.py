"""What a server is measured on: users with sessions in Redis, a key, versions in a folder."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from headrace.errors import StackError
from headrace.events import Click
from headrace.keys import KeyStore, make_key
from headrace.local.process import ChildProcess, last_lines
from headrace.producer import Producer
from headrace.sessions import LoggedEvent, SessionStore
from headrace.settings import Settings
from headrace.store import connect
from headrace.version_store import VersionStore
from headrace.versions import version_folder, version_name

INTERACTIONS = 50
"""Of a user's session."""
CLUSTER = 100
"""Items that lie together in a made-up version; a session stays among them."""
_APART_S = 300.0
_USERS_AT_ONCE = 20
_BUILT_WITHIN_S = 600.0


@dataclass(frozen=True)
class Ground:
    """Addresses, a folder for logs, and what a client needs."""

    settings: Settings
    environ: Mapping[str, str]
    logs: Path
    user_ids: Sequence[str]
    key: str
    """With the scope `recommend`."""
    admin_key: str
    """With the scope `admin`."""

    @property
    def bodies(self) -> list[str]:
        """What clients ask: for ten items, as everybody does."""
        return [msgspec.json.encode({"user_id": user_id}).decode() for user_id in self.user_ids]

    @property
    def headers(self) -> dict[str, str]:
        """What clients send besides."""
        return {"Authorization": f"Bearer {self.key}"}


async def prepare(
    settings: Settings, environ: Mapping[str, str], logs: Path, *, users: int, items: int
) -> Ground:
    """Make keys, and so many users, each with a session among some of the items."""
    redis = connect(settings)
    try:
        key, text = make_key(("recommend",), now=time.time(), name="benchmark")
        admin, admin_text = make_key(("admin",), now=time.time(), name="benchmark")
        for each in (key, admin):
            await KeyStore(redis, settings).add(each)
        sessions, user_ids = SessionStore(redis, settings), [f"user-{n:06}" for n in range(users)]
        rng = np.random.default_rng(0)
        for first in range(0, users, _USERS_AT_ONCE):
            some = user_ids[first : first + _USERS_AT_ONCE]
            await sessions.apply(
                [event for user_id in some for event in _walk(rng, user_id, items)]
            )
    finally:
        await redis.aclose()
    return Ground(settings, environ, logs, user_ids, text, admin_text)


def _walk(rng: np.random.Generator, user_id: str, items: int) -> list[LoggedEvent]:
    """Return the events of a user who meets some items that lie together."""
    first = CLUSTER * int(rng.integers(items // CLUSTER))
    now = time.time()
    return [
        LoggedEvent(
            Click(
                event_id=f"{user_id}-{place}",
                user_id=user_id,
                item_id=f"item-{first + int(number):07}",
                timestamp=now - _APART_S * (INTERACTIONS - place),
            ),
            topic="clicks",
            topic_id="made-up",
            partition=place % 4,
            offset=place,
        )
        for place, number in enumerate(rng.permutation(CLUSTER)[:INTERACTIONS])
    ]


async def build_version(ground: Ground, items: int, number: int) -> str:
    """Write a made-up version of so many items; return its name, which ends with the number.

    Raises `StackError`.
    """
    version = version_name(time.time(), f"{number:06x}")
    folder = version_folder(Path(ground.settings.artifacts), ground.settings.model_id, version)
    log = ground.logs / f"build-{number}.log"
    command = (sys.executable, "-m", "models.training.synthetic", str(folder), str(items))
    process = await ChildProcess.start(command, environ=ground.environ, log=log)
    try:
        code = await asyncio.wait_for(process.wait(), _BUILT_WITHIN_S)
    finally:
        await process.stop(0.0)
    if code:
        raise StackError(f"A version of {items:,} items could not be made:\n{last_lines(log)}")
    return version


async def activate(settings: Settings, version: str) -> None:
    """Put a version live; servers take it up by themselves."""
    redis, producer = connect(settings), Producer(settings)
    try:
        await VersionStore(redis, settings, producer).activate(
            settings.model_id, version, now=time.time(), reason="benchmark"
        )
    finally:
        await producer.close()
        await redis.aclose()
