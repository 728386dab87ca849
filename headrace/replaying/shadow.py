"""A shadow: a namespace in which the state is rebuilt, and the record of how far that has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from headrace.errors import HeadraceError
from headrace.identity import generation_key
from headrace.model_settings import SHARED
from headrace.replaying.window import Cursor, Window
from headrace.setting_types import Name
from headrace.settings import Settings
from headrace.state import delete_keys, scan_of_model

Counts = dict[str, dict[str, int]]
"""By topic and outcome."""


class ReplayRecord(Struct, frozen=True, kw_only=True):
    """How far the replay into a shadow has come; what is redone after a crash changes nothing."""

    window: Window
    begun_at: float
    """Unix seconds."""
    asked: dict[str, str]
    """What the outcome depends on: the window as it was asked for, and settings."""
    partition: int = -1
    """The number in hand; all before it are done."""
    cursors: Mapping[str, Cursor] = {}
    """By topic, how far the number in hand has come."""
    positions: dict[str, int] = {}
    """By the name of a place that is done, where a worker goes on."""
    counts: Counts = {}
    has_leftovers: bool = False
    """Whether what an earlier replay left there is still to be deleted, before anything else."""
    is_complete: bool = False


class Shadow:
    """A shadow in Redis."""

    def __init__(self, redis: Redis, live: Settings, namespace: str) -> None:
        """Raises `HeadraceError` when the namespace is no name, or the live one's."""
        self.settings = shadow_settings(live, namespace)
        self._redis = redis
        self._key = self.settings.state_key("replay")

    async def read(self) -> ReplayRecord | None:
        """Return the record; None when there is none."""
        raw = await self._redis.get(self._key)
        return None if raw is None else msgspec.json.decode(raw, type=ReplayRecord)

    async def store(self, record: ReplayRecord) -> None:
        """Store the record of what is stored."""
        await self._redis.set(self._key, msgspec.json.encode(record))

    async def delete(self) -> None:
        """Delete the shadow, its record last."""
        await self.clear()
        await self._redis.delete(self._key)

    async def clear(self) -> None:
        """Delete everything but the record."""
        async for keys in scan_of_model(self._redis, self.settings):
            await delete_keys(
                self._redis, [key for key in self._own(keys) if key != self._key.encode()]
            )

    async def check_empty(self) -> None:
        """Raise `HeadraceError` when anything stands in the namespace."""
        async for found in scan_of_model(self._redis, self.settings):
            if keys := self._own(found):
                raise HeadraceError(
                    f"The namespace {self.settings.namespace} holds {keys[0].decode()!r} and no "
                    "record of a replay; give --into a name of its own."
                )

    def _own(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the keys without the generation, which is that of whoever writes to it.

        Nor those of models with topics of their own, whose shadows may stand in the namespace, too.
        """
        generation = generation_key(self.settings).encode()
        is_shared = self.settings.event_topics == SHARED
        others = self.settings.key("topics", "").encode() if is_shared else ()
        return [key for key in keys if key != generation and not key.startswith(others)]


def name_of(settings: Settings, namespace: str) -> Settings:
    """Return the settings with this namespace. Raises `HeadraceError` when it is no name."""
    try:
        name = msgspec.convert(namespace, Name)
    except msgspec.ValidationError as exc:
        raise HeadraceError(
            f"The namespace {namespace!r} is no name: letters, digits, dot, dash and underscore, "
            "beginning with a letter or a digit, at most 100."
        ) from exc
    return msgspec.structs.replace(settings, namespace=name)


def shadow_settings(live: Settings, namespace: str) -> Settings:
    """Return the settings of a shadow. Raises `HeadraceError` when this cannot be its namespace."""
    if namespace == live.namespace:
        raise HeadraceError(f"{namespace} is the live namespace; give a shadow another name.")
    return name_of(live, namespace)


def promotion(live: Settings, namespace: str) -> str:
    """Return the command that makes the shadow in this namespace the live state."""
    of_model = "" if live.event_topics == SHARED else f" --model {live.model_id}"
    return f"headrace promote {namespace}{of_model}"


def check_same(asked: Mapping[str, str], before: ReplayRecord, namespace: str) -> None:
    """Raise `HeadraceError` when a replay that is to go on was asked for otherwise."""
    differences = [
        f"{name} was {before.asked.get(name, 'not given')} and is {asked.get(name, 'not given')}"
        for name in sorted(asked.keys() | before.asked.keys())
        if asked.get(name) != before.asked.get(name)
    ]
    if differences:
        raise HeadraceError(
            f"The replay into {namespace} was begun otherwise: {'; '.join(differences)}. "
            "Ask for the same to go on, or begin anew, which deletes what is there (--anew)."
        )
