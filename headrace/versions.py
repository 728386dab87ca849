"""Model versions: the manifest of one, and which one is live.

A version is a folder `<artifacts>/<model_id>/<version>/`. Which one is live stands in Redis, so
that it outlives the broker; every change is a message on `model-versions` as well, which is sent as
soon as Kafka takes it: a rollback does not wait for it.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from aiokafka.errors import KafkaError
from msgspec import Meta, Struct
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from headrace.errors import ChangeRefused, VersionNotFound
from headrace.producer import Outgoing, Producer
from headrace.settings import Settings
from headrace.store import load_script, text
from headrace.topics import MODEL_VERSIONS, Topics
from headrace.training_kinds import Kind, Mode

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
"""The manifest's signature, beside it, when the trainer signs."""
Check = Callable[[bytes, bytes | None], None]
"""Is given a manifest and its signature, None for none; raises `ArtifactInvalid`."""

ROLLED_BACK = "rolled back"
"""Why a version is live that ops went back to."""
_HISTORY = 100
"""Changes of a model's live version that are remembered."""
_TELLING_MS = 30_000
"""Longest that one who tells changes keeps others from it; longer than a producer tries."""
_TOLD_AT_ONCE = 100
_PATTERN = r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}(?!\n)$"
_VERSION = re.compile(_PATTERN)
VersionName = Annotated[str, Meta(pattern=_PATTERN)]


class ListsSpan(Struct, frozen=True, kw_only=True):
    """How far the topic of served lists is read."""

    topic_id: str
    """The id that the topic had: offsets mean nothing in a topic made anew."""
    through: dict[str, int]
    """By partition, the offset to end at, exclusive."""


class FeedbackData(ListsSpan, frozen=True, kw_only=True):
    """What a version learnt from the lists that users were served."""

    lists: int = 0
    """Of users, that were read."""
    choices: int = 0
    """Sessions whose users acted on something they were served, and passed something over."""


class TrainingData(Struct, frozen=True, kw_only=True):
    """What a version was trained on."""

    through: dict[str, dict[str, int]]
    """By topic and partition, the offset read up to, exclusive."""
    topic_ids: dict[str, str] = {}
    """By topic, the id it had: offsets mean nothing in a topic made anew."""
    events: int
    """All that the version learnt from; of an incremental one, those of its base among them."""
    read: int = 0
    """Of these, the events that this training read, those of a sample of the old included."""
    users: int
    """Of the events read."""
    items: int
    fingerprint: str
    """sha256 of the columns trained on, and of the base's fingerprint if there is a base."""
    feedback: FeedbackData | None = None
    """None: it was not asked for; else the fingerprint is of the choices, too."""
    from_timestamp: float
    """Unix seconds of the oldest event."""
    to_timestamp: float
    """Unix seconds of the newest event."""
    fitted_to: float | None = None
    """Unix seconds of the newest event that the towers were fitted to; those after it were held
    out. None: all were fitted to."""


POPULARITY = "popularity"


class Verdict(Struct, frozen=True, kw_only=True):
    """What the gate says of a version: how it does beside what serves, on events new to both."""

    accepted: bool
    reason: str
    """In words, with the figures."""
    against: str
    """The version that was live, or `popularity` where there was none to measure beside."""
    live: str | None
    """The version that was live then."""
    events: int
    """Held-out events that both were asked before."""
    users: int
    since: float
    """Unix seconds: the events are newer than this, up to which one or the other was fitted."""
    ndcg_at_10: float
    baseline_ndcg_at_10: float
    """Of what it was measured against."""
    hr_at_10: float
    baseline_hr_at_10: float
    difference: float
    """Of NDCG@10, as a share of the baseline's; below 0 the version is worse."""
    low: float
    """Lower end of the difference's 95 % interval."""
    high: float
    tolerance: float

    def figures(self) -> dict[str, float]:
        """Return the figures under their names among a version's metrics."""
        return {
            "gate_events": float(self.events),
            "gate_ndcg_at_10": self.ndcg_at_10,
            "gate_baseline_ndcg_at_10": self.baseline_ndcg_at_10,
            "gate_hr_at_10": self.hr_at_10,
            "gate_baseline_hr_at_10": self.baseline_hr_at_10,
            "gate_difference": self.difference,
            "gate_low": self.low,
            "gate_high": self.high,
        }


class Manifest(Struct, frozen=True, kw_only=True):
    """What `manifest.json` in a version's folder says."""

    model_id: str
    version: str
    created_at: float
    """Unix seconds."""
    files: dict[str, str]
    """sha256 of each file, by its path in the folder."""
    kind: Kind = "retrieval"
    mode: Mode = "full"
    base: str | None = None
    """The version that an incremental training went on from."""
    data: TrainingData
    parameters: dict[str, Any]
    metrics: dict[str, float]
    packages: dict[str, str]
    notes: tuple[str, ...] = ()
    """In words, what is not as it was asked for."""
    verdict: Verdict | None = None
    """What the gate says; None where nobody asked it."""


class LiveVersion(Struct, frozen=True, kw_only=True):
    """What went live, when, and why."""

    model_id: str
    version: str
    live_since: float
    """Unix seconds."""
    sequence: int
    """Rises by one at each change of the model's live version."""
    reason: str


Change = Literal["live", "pin", "unpin", "delete", "delete-model", "create-model"]


class VersionChange(Struct, frozen=True, kw_only=True):
    """A message of `model-versions`: what changed, and how the model stands since."""

    model_id: str
    change: Change
    version: str | None
    """That it is about; None for the whole model."""
    at: float
    """Unix seconds."""
    reason: str
    sequence: int
    """Rises by one at each change of the model. One that comes twice is one change."""
    live: str | None
    pinned: str | None


class ModelState(Struct, frozen=True, kw_only=True):
    """How a model stands."""

    live: LiveVersion | None = None
    pinned: str | None = None
    """The version that stays live until somebody puts another one live; None: new ones may."""
    before: str | None = None
    """The version that a rollback leads to."""
    gone: frozenset[str] = frozenset()
    """Versions that were deleted; their files may be there yet."""
    deleted: bool = False
    """Whether the whole model was."""


def version_name(created_at: float, token: str) -> str:
    """Return a version's name: its time to the second, in UTC, and six hexadecimal digits."""
    moment = datetime.fromtimestamp(created_at, tz=timezone.utc)
    return f"{moment:%Y%m%dT%H%M%SZ}-{token}"


def is_version_name(name: str) -> bool:
    """Return whether this is a version's name."""
    return _VERSION.match(name) is not None


def version_folder(artifacts: Path, model_id: str, version: str) -> Path:
    """Return the version's folder. Raises `VersionNotFound` for a name that is not a version's."""
    if not is_version_name(version):
        raise VersionNotFound(f"{version!r} is not the name of a version of model {model_id}.")
    return artifacts / model_id / version


def read_manifest(folder: Path) -> Manifest | None:
    """Return what the manifest in a version's folder says, None when there is none."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None


def read_manifests(artifacts: Path, model_id: str) -> list[Manifest]:
    """Return the manifests of the model's versions, newest first; a damaged one is left out."""
    folder = artifacts / model_id
    if not folder.is_dir():
        return []
    names = sorted((path.name for path in folder.iterdir()), reverse=True)
    manifests: list[Manifest] = []
    for name in filter(is_version_name, names):
        try:
            manifest = read_manifest(folder / name)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
            logger.warning("version %s has no manifest that can be read: %s", name, exc)
            continue
        if manifest is not None:
            manifests.append(manifest)
    return manifests


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
        """Forget deleted versions whose files are gone."""
        names = list(versions)
        if names:
            await self._redis.srem(self._key(model_id, "gone"), *names)

    async def tell(self, model_id: str) -> None:
        """Tell Kafka what it has not acknowledged yet, in order; one teller at a time.

        Raises `aiokafka.errors.KafkaError` and `redis.exceptions.RedisError`; what is left is told
        at the next call, and what was cut off may be told twice.
        """
        untold, token = self._key(model_id, "untold"), secrets.token_hex(8)
        if not await self._redis.exists(untold):
            return
        lock = self._key(model_id, "telling")
        if not await self._redis.set(lock, token, nx=True, px=_TELLING_MS):
            return
        topic = Topics(self._settings).name(MODEL_VERSIONS)
        try:
            while raws := await self._redis.lrange(untold, 0, _TOLD_AT_ONCE - 1):
                messages = [text(raw).encode() for raw in raws]
                await self._producer.send(
                    [Outgoing(topic, model_id.encode(), message) for message in messages]
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


def describe(manifest: Manifest, state: ModelState) -> Mapping[str, Any]:
    """Return a version as the HTTP API shows it."""
    return {
        "version": manifest.version,
        "created_at": manifest.created_at,
        "kind": manifest.kind,
        "mode": manifest.mode,
        "base": manifest.base,
        "live": state.live is not None and state.live.version == manifest.version,
        "pinned": state.pinned == manifest.version,
        "data": msgspec.to_builtins(manifest.data),
        "parameters": manifest.parameters,
        "metrics": manifest.metrics,
        "verdict": msgspec.to_builtins(manifest.verdict),
        "notes": list(manifest.notes),
    }
