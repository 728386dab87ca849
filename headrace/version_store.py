"""Which version of each model is live, in Redis, so that it outlives the broker.

Every change is a message on `model-versions` as well, which is sent as soon as Kafka takes it: a
rollback does not wait for it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from aiokafka.errors import KafkaError
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from headrace.errors import ChangeRefused
from headrace.producer import Outgoing, Producer
from headrace.settings import Settings
from headrace.store import load_script, text
from headrace.topics import MODEL_VERSIONS, Topics
from headrace.versions import Change, LiveVersion, ModelState

logger = logging.getLogger(__name__)

_HISTORY = 100
"""Changes of a model's live version that are remembered."""
_TELLING_MS = 30_000
"""Longest that one who tells changes keeps others from it; longer than a producer tries."""
_TOLD_AT_ONCE = 100


class VersionStore:
    """Which version of each model is live, in Redis; changes are told on `model-versions`.

    A change is one step there, so of two at once the second sees what the first left.
    """

    def __init__(self, redis: Redis, settings: Settings, producer: Producer) -> None:
        self._redis = redis
        self._settings = settings
        self._producer = producer
        self._script: AsyncScript = redis.register_script(load_script("change_version.lua"))
        self._delete_own: AsyncScript = redis.register_script(load_script("compare_and_delete.lua"))

    async def live(self, model_id: str) -> LiveVersion | None:
        """Return the model's live version, or None before the first."""
        history = await self.history(model_id, 1)
        return history[0] if history else None

    async def history(self, model_id: str, limit: int = 100) -> list[LiveVersion]:
        """Return what went live, newest first."""
        rows = await self._redis.lrange(self._key(model_id), 0, limit - 1)
        return [msgspec.json.decode(row, type=LiveVersion) for row in rows]

    async def models(self) -> list[str]:
        """Return the ids of the models that have, or had, a live version."""
        return sorted(text(model_id) for model_id in await self._redis.smembers(self._models_key()))

    async def state(self, model_id: str) -> ModelState:
        """Return how the model stands, as of one moment."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.lrange(self._key(model_id), 0, _HISTORY - 1)
            pipeline.hmget(self._key(model_id, "state"), "pinned", "deleted")
            pipeline.smembers(self._key(model_id, "gone"))
            rows, (pinned, deleted), names = await pipeline.execute()
        history = [msgspec.json.decode(row, type=LiveVersion) for row in rows]
        gone = frozenset(map(text, names))
        live = history[0] if history else None
        names_before = (each.version for each in history if live and each.version != live.version)
        return ModelState(
            live=live,
            pinned=None if pinned is None else text(pinned),
            before=next((name for name in names_before if name not in gone), None),
            gone=gone,
            deleted=deleted is not None,
        )

    async def is_deleted(self, model_id: str) -> bool:
        """Return whether the model was deleted: it is trained no more."""
        return bool(await self._redis.hexists(self._key(model_id, "state"), "deleted"))

    async def was_deleted(self, model_id: str) -> bool:
        """Return whether the model was deleted, be it created again since.

        Where it was, that no version is live says that none is to serve; else Redis lost it.
        """
        return bool(await self._redis.hexists(self._key(model_id, "state"), "emptied"))

    async def activate(
        self,
        model_id: str,
        version: str,
        *,
        now: float,
        reason: str,
        expected: str | None = "*",
        unasked: bool = False,
        fence: int = 0,
    ) -> LiveVersion:
        """Put a version live; servers take it up within moments. A pin moves along.

        `expected`: the version that must be live now, None for none, `*` for any; `unasked`: nobody
        asked for this very version, so a pin keeps it out; `fence`: of the asker's lease, a number
        that rises with each new one: a lower one than was seen comes too late, 0 is none. Raises
        `ChangeRefused`, and `redis.exceptions.RedisError`, after which it may be live or not.
        """
        await self._redis.sadd(self._models_key(), model_id)
        raw = await self._change(
            model_id, "live", version, now, reason, expected=expected, unasked=unasked, fence=fence
        )
        return msgspec.json.decode(raw, type=LiveVersion)

    async def fence(self, model_id: str, fence: int) -> None:
        """Let no trainer with a smaller number put a version of the model live any more.

        Raises `ChangeRefused` when there is one with a larger number, or the model was deleted.
        """
        await self._step(model_id, "fence", "", {}, {}, fence=fence)

    async def pin(self, model_id: str, version: str, *, now: float, reason: str) -> None:
        """Put a version live, if it is not, and let no new one take its place unasked.

        Raises `ChangeRefused`.
        """
        await self._redis.sadd(self._models_key(), model_id)
        await self._change(model_id, "pin", version, now, reason)

    async def unpin(self, model_id: str, *, now: float, reason: str) -> None:
        """Let new versions go live by themselves again. Raises `ChangeRefused`."""
        await self._change(model_id, "unpin", "", now, reason)

    async def delete(
        self, model_id: str, version: str, *, now: float, reason: str, unasked: bool = False
    ) -> None:
        """Mark a version as deleted: it cannot go live any more; the trainer deletes its files.

        `unasked`: for its age alone; then the version that a rollback leads to stays. Raises
        `ChangeRefused` for one that is live.
        """
        await self._change(model_id, "delete", version, now, reason, unasked=unasked)

    async def delete_model(
        self, model_id: str, versions: Iterable[str] = (), *, now: float, reason: str
    ) -> None:
        """Mark a model as deleted, live version and all. Raises `ChangeRefused` when it is.

        `versions`: those that it has, which stay deleted when the model is created again.
        """
        await self._redis.sadd(self._models_key(), model_id)
        await self._change(model_id, "delete-model", "", now, reason)
        names = list(versions)
        if names:
            await self._redis.sadd(self._key(model_id, "gone"), *names)

    async def create_model(self, model_id: str, *, now: float, reason: str) -> None:
        """Let a model that was deleted be trained again."""
        await self._redis.sadd(self._models_key(), model_id)
        await self._change(model_id, "create-model", "", now, reason)

    async def forget(self, model_id: str, versions: Iterable[str]) -> None:
        """Forget deleted versions whose files are gone, but for those that have been live.

        Else a rollback would lead to them again.
        """
        names = set(versions)
        if names:
            names -= {each.version for each in await self.history(model_id, _HISTORY)}
        if names:
            await self._redis.srem(self._key(model_id, "gone"), *names)

    async def tell(self, model_id: str) -> None:
        """Tell Kafka what it has not acknowledged yet, in order; one teller at a time.

        Raises `aiokafka.errors.KafkaError` and `redis.exceptions.RedisError`; what is left is told
        at the next call, and what was cut off may be told twice.
        """
        untold, token = self._key(model_id, "untold"), secrets.token_hex(8)
        lock = self._key(model_id, "telling")
        topic = Topics(self._settings).name(MODEL_VERSIONS)
        while await self._redis.exists(untold):
            # For each sending anew: it must not lapse before what was sent is taken out.
            if not await self._redis.set(lock, token, nx=True, px=_TELLING_MS):
                return
            try:
                raws = await self._redis.lrange(untold, 0, _TOLD_AT_ONCE - 1)
                await self._producer.send(
                    [Outgoing(topic, model_id.encode(), text(raw).encode()) for raw in raws]
                )
                await self._redis.ltrim(untold, len(raws), -1)
            finally:
                await self._delete_own(keys=[lock], args=[token])

    async def _change(
        self,
        model_id: str,
        change: Change,
        version: str,
        now: float,
        reason: str,
        *,
        expected: str | None = "*",
        unasked: bool = False,
        fence: int = 0,
    ) -> bytes:
        entry = {"model_id": model_id, "version": version, "live_since": now, "reason": reason}
        message = {
            "model_id": model_id,
            "change": change,
            "version": version or None,
            "at": now,
            "reason": reason,
        }
        answer = await self._step(
            model_id,
            change,
            version,
            entry,
            message,
            expected=expected,
            unasked=unasked,
            fence=fence,
        )
        try:
            await self.tell(model_id)
        except (KafkaError, RedisError) as exc:
            logger.warning("a change of model %s is told later: %r", model_id, exc)
        return answer

    async def _step(
        self,
        model_id: str,
        change: Change | Literal["fence"],
        version: str,
        entry: Mapping[str, Any],
        message: Mapping[str, Any],
        *,
        expected: str | None = "*",
        unasked: bool = False,
        fence: int = 0,
    ) -> bytes:
        done, answer, *live = await self._script(
            keys=[
                self._key(model_id),
                *(self._key(model_id, part) for part in ("state", "gone", "untold")),
            ],
            args=[
                change,
                version,
                msgspec.json.encode(entry),
                msgspec.json.encode(message),
                expected or "",
                int(unasked),
                fence,
                _HISTORY,
            ],
        )
        if not done:
            raise _refusal(text(answer), model_id, version, text(live[0]))
        return bytes(answer)

    def _models_key(self) -> str:
        return self._settings.key("models")

    def _key(self, model_id: str, *parts: str) -> str:
        return self._settings.key("live", "{" + model_id + "}", *parts)


def _refusal(why: str, model_id: str, version: str, live: str) -> ChangeRefused:
    now_live = f"version {live} is live" if live else "no version is live"
    words = {
        "deleted": f"Model {model_id} was deleted; `headrace models create {model_id}` lets it be "
        "trained again.",
        "fenced": f"Another trainer has taken model {model_id} over; {now_live}.",
        "changed": f"The live version of model {model_id} has changed meanwhile: {now_live}.",
        "gone": f"Version {version} of model {model_id} was deleted.",
        "pinned": f"Model {model_id} is pinned to version {live}; `headrace models unpin` lets "
        "new versions go live.",
        "nothing": f"Model {model_id} has no live version to pin.",
        "live": f"Version {version} of model {model_id} is live: put another one live first.",
        "before": f"A rollback of model {model_id} leads to version {version}.",
    }
    return ChangeRefused(why, words[why])
