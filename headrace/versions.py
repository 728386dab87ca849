"""Model versions: a version's name, folder and manifest, and how a model stands with its versions.

A version is a folder `<artifacts>/<model_id>/<version>/`. Which one is live says `version_store`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from headrace.errors import VersionNotFound
from headrace.training_kinds import Kind, Mode

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
"""The manifest's signature, beside it, when the trainer signs."""
Check = Callable[[bytes, bytes | None], None]
"""Is given a manifest and its signature, None for none; raises `ArtifactInvalid`."""

ACTIVATED, PINNED, ROLLED_BACK = "activated", "pinned", "rolled back"
"""Why a version is live that ops put there."""
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
    open_from: dict[str, int] = {}
    """By partition, the first list on which its user could still act when the events ended."""

    @property
    def onward(self) -> ListsSpan:
        """From where a training that goes on reads lists, in `through`."""
        return ListsSpan(topic_id=self.topic_id, through={**self.through, **self.open_from})


class TrainingData(Struct, frozen=True, kw_only=True):
    """What a version was trained on."""

    through: dict[str, dict[str, int]]
    """By topic and partition, the offset read up to, exclusive."""
    topic_ids: dict[str, str] = {}
    """By topic, the id it had: offsets mean nothing in a topic made anew."""
    whole: bool = True
    """Whether all of the log up to there was read: nothing left out by a time or a beginning that
    was asked for."""
    erasures: str = ""
    """Digest of the erasures whose users' events were left out; "" for none."""
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

    @property
    def is_by_hand(self) -> bool:
        """Whether ops put it live, not a training."""
        return self.reason in (ACTIVATED, PINNED, ROLLED_BACK)


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


def partial_folder(folder: Path) -> Path:
    """Return where a version is written before it appears in its folder."""
    return folder.with_name(f".{folder.name}.partial")


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
