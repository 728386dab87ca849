"""Model versions: the manifest of one, and which one is live.

A version is a folder `<artifacts>/<model_id>/<version>/`. Which one is live stands in Redis, so
that it outlives the broker; every change is a message on `model-versions` as well.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from redis.asyncio import Redis

from headrace.errors import HeadraceError, VersionNotFound
from headrace.producer import Outgoing, Producer
from headrace.settings import Settings
from headrace.store import load_script, text
from headrace.topics import MODEL_VERSIONS, Topics
from headrace.training_kinds import Kind, Mode

logger = logging.getLogger(__name__)

ROLLED_BACK = "rolled back"
"""Why a version is live that ops went back to."""
_HISTORY = 100
"""Changes of a model's live version that are remembered."""
_PATTERN = r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}(?!\n)$"
_VERSION = re.compile(_PATTERN)
VersionName = Annotated[str, Meta(pattern=_PATTERN)]


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
    from_timestamp: float
    """Unix seconds of the oldest event."""
    to_timestamp: float
    """Unix seconds of the newest event."""


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


class LiveVersion(Struct, frozen=True, kw_only=True):
    """A message of `model-versions`: what went live, when, and why."""

    model_id: str
    version: str
    live_since: float
    """Unix seconds."""
    sequence: int
    """Rises by one at each change of the model's live version."""
    reason: str


class SupersededTrainer(HeadraceError):
    """A trainer puts a version live whose task another trainer has taken since."""


def is_held(live: LiveVersion | None) -> bool:
    """Return whether ops chose the live version, so that no training puts an older one live."""
    return live is not None and live.reason == ROLLED_BACK


def version_name(created_at: float, token: str) -> str:
    """Return a version's name: its time to the second, in UTC, and six hexadecimal digits."""
    moment = datetime.fromtimestamp(created_at, tz=timezone.utc)
    return f"{moment:%Y%m%dT%H%M%SZ}-{token}"


def version_folder(artifacts: Path, model_id: str, version: str) -> Path:
    """Return the version's folder. Raises `VersionNotFound` for a name that is not a version's."""
    if not _VERSION.match(version):
        raise VersionNotFound(f"{version!r} is not the name of a version of model {model_id}.")
    return artifacts / model_id / version


def read_manifest(folder: Path) -> Manifest | None:
    """Return what the manifest in a version's folder says, None when there is none."""
    try:
        return msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None


def read_manifests(artifacts: Path, model_id: str) -> list[Manifest]:
    """Return the manifests of the model's versions, newest first; a damaged one is left out."""
    folder = artifacts / model_id
    if not folder.is_dir():
        return []
    names = sorted((path.name for path in folder.iterdir()), reverse=True)
    manifests: list[Manifest] = []
    for name in filter(_VERSION.match, names):
        try:
            manifest = read_manifest(folder / name)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
            logger.warning("version %s has no manifest that can be read: %s", name, exc)
            continue
        if manifest is not None:
            manifests.append(manifest)
    return manifests


class VersionStore:
    """Which version of each model is live, in Redis; changes are told on `model-versions`."""

    def __init__(self, redis: Redis, settings: Settings, producer: Producer) -> None:
        self._redis = redis
        self._settings = settings
        self._producer = producer
        self._advance = redis.register_script(load_script("advance_live.lua"))

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

    async def fence(self, model_id: str, fence: int) -> None:
        """Let no trainer with a smaller number put a version of the model live any more."""
        await self._step(model_id, fence, "fence")

    async def activate(
        self, model_id: str, version: str, *, now: float, reason: str, fence: int | None = None
    ) -> LiveVersion:
        """Announce a version and put it live; servers take it up within moments.

        `fence`: the number of the trainer that does it. Raises `aiokafka.errors.KafkaError`,
        `redis.exceptions.RedisError` or `SupersededTrainer`, and then the version is not live.
        """
        live = LiveVersion(
            model_id=model_id,
            version=version,
            live_since=now,
            sequence=await self._step(model_id, fence, "number"),
            reason=reason,
        )
        raw = msgspec.json.encode(live)
        topic = Topics(self._settings).name(MODEL_VERSIONS)
        await self._producer.send([Outgoing(topic, model_id.encode(), raw)])
        await self._step(model_id, fence, "live", raw)
        await self._redis.sadd(self._models_key(), model_id)
        return live

    async def _step(self, model_id: str, fence: int | None, step: str, raw: bytes = b"") -> int:
        key = self._key(model_id)
        number = await self._advance(
            keys=[key, f"{key}:sequence", f"{key}:fence"],
            args=[step, "" if fence is None else fence, raw, _HISTORY],
        )
        if int(number) < 0:
            raise SupersededTrainer(f"Model {model_id} is being trained by another trainer.")
        return int(number)

    def _models_key(self) -> str:
        return self._settings.key("models")

    def _key(self, model_id: str) -> str:
        return self._settings.key("live", "{" + model_id + "}")


def describe(manifest: Manifest, live: LiveVersion | None) -> Mapping[str, Any]:
    """Return a version as the HTTP API shows it."""
    return {
        "version": manifest.version,
        "created_at": manifest.created_at,
        "kind": manifest.kind,
        "mode": manifest.mode,
        "base": manifest.base,
        "live": live is not None and live.version == manifest.version,
        "data": msgspec.to_builtins(manifest.data),
        "parameters": manifest.parameters,
        "metrics": manifest.metrics,
        "notes": list(manifest.notes),
    }
