"""The files of one model version, read and checked. Nothing in them is ever unpickled.

manifest.json           sha256 of every other file; data, parameters, metrics, packages
manifest.sig            the trainer's signature of the manifest, when it has a key to sign with
query_tower.tflite      a session's item vectors and features → query vector
candidate_tower.tflite  an item's hashed features → item vector
items.json              item ids, by position
item_vectors.npy        float32 [items, width]
map.npy                 float32 [items, 2], for people to look at; `item_map`
rules_*.npy             sequential rules: starts, targets, weights, totals; `Rules`
blend.json              with what towers and rules are blended
calibration.json        slope and intercept: blended score → probability
popular.json            item ids, the most popular of late first
probes.json             made-up sessions, and what this version answers them: `Probes`
bought_together/        counts of baskets, when the version has them; see `bought_together`
index/                  ScaNN's files, when the version has them
training.npz            the weights, for a training to go on from; serving does not read it
savedmodel/             for TensorFlow Serving; serving here does not read it
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.errors import ArtifactInvalid
from headrace.versions import MANIFEST, SIGNATURE, Check, Manifest
from models.retrieval.blend import Blend
from models.retrieval.bought_together import BoughtTogether
from models.retrieval.calibration import Calibration
from models.retrieval.rules import Rules
from models.retrieval.throttle import Rest, no_rest

QUERY_TOWER = "query_tower.tflite"
CANDIDATE_TOWER = "candidate_tower.tflite"
ITEMS = "items.json"
ITEM_VECTORS = "item_vectors.npy"
MAP = "map.npy"
RULES = tuple(f"rules_{name}.npy" for name in ("starts", "targets", "weights", "totals"))
BLEND = "blend.json"
CALIBRATION = "calibration.json"
POPULAR = "popular.json"
PROBES = "probes.json"
BOUGHT_TOGETHER = "bought_together"
INDEX = "index"
SAVED_MODEL = "savedmodel"

_REQUIRED = (
    QUERY_TOWER,
    CANDIDATE_TOWER,
    ITEMS,
    ITEM_VECTORS,
    *RULES,
    BLEND,
    CALIBRATION,
    POPULAR,
)
_CHUNK_BYTES = 1 << 20
_IDS_AT_ONCE = 4_096


@dataclass(frozen=True)
class Artifact:
    """A model version in memory."""

    folder: Path
    manifest: Manifest
    query_tower: bytes
    candidate_tower: bytes
    item_ids: list[str]
    item_vectors: NDArray[np.float32]
    """`[items, width]`: one row per item id."""
    rules: Rules
    """Between the positions of the item ids."""
    blend: Blend
    calibration: Calibration
    popular: list[str]
    bought_together: BoughtTogether

    @property
    def has_index(self) -> bool:
        """Whether the version carries a ScaNN index; else the exact one is meant."""
        return _has_folder(self.manifest, INDEX)


def load_artifact(folder: Path, check: Check = lambda *_: None, rest: Rest = no_rest) -> Artifact:
    """Read and check the version in this folder; `check` is asked of its signature first.

    `rest` is called between steps of some milliseconds to some tens of them. Raises
    `ArtifactInvalid`, naming the file and what is wrong with it.
    """
    manifest = read_manifest_of(folder, _REQUIRED, check, rest)
    item_ids = decode_file(folder, ITEMS, list[str])
    if MAP in manifest.files:
        read_points(folder, len(item_ids))
    return Artifact(
        folder=folder,
        manifest=manifest,
        query_tower=read_bytes(folder, QUERY_TOWER),
        candidate_tower=read_bytes(folder, CANDIDATE_TOWER),
        item_ids=item_ids,
        item_vectors=_read_vectors(folder, item_ids, rest),
        rules=_read_rules(folder, len(item_ids), rest),
        blend=decode_file(folder, BLEND, Blend),
        calibration=decode_file(folder, CALIBRATION, Calibration),
        popular=decode_file(folder, POPULAR, list[str]),
        bought_together=_read_bought_together(folder, manifest, len(item_ids)),
    )


def read_manifest_of(
    folder: Path,
    required: Sequence[str],
    check: Check = lambda *_: None,
    rest: Rest = no_rest,
) -> Manifest:
    """Return the manifest of a version whose files, these among them, are those that it lists.

    `check` is asked of its signature first. Raises `ArtifactInvalid`.
    """
    manifest = _signed_manifest(folder, check)
    _check_files(folder, manifest, required, rest)
    return manifest


def read_part(
    folder: Path, names: Sequence[str], check: Check = lambda *_: None
) -> Manifest | None:
    """Return the manifest of a version that lists these files, checked; None: it lacks one.

    `check` is asked of its signature first. The others are not looked at. Raises `ArtifactInvalid`.
    """
    manifest = _signed_manifest(folder, check)
    if not manifest.files.keys() >= set(names):
        return None
    for name in names:
        if hashlib.sha256(read_bytes(folder, name)).hexdigest() != manifest.files[name]:
            raise _invalid(folder, name, "has not the sha256 that the manifest gives")
    return manifest


def file_digests(folder: Path, rest: Rest = no_rest) -> dict[str, str]:
    """Return the sha256 of every file under the folder, by relative path.

    The manifest, and its signature, are none of them.
    """
    return {
        path.relative_to(folder).as_posix(): _sha256(path, rest)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in (folder / MANIFEST, folder / SIGNATURE)
    }


def _signed_manifest(folder: Path, check: Check) -> Manifest:
    raw = read_bytes(folder, MANIFEST)
    signed = (folder / SIGNATURE).is_file()
    check(raw, read_bytes(folder, SIGNATURE) if signed else None)
    manifest: Manifest = _decoded(folder, MANIFEST, raw, Manifest)
    return manifest


def _check_files(folder: Path, manifest: Manifest, required: Sequence[str], rest: Rest) -> None:
    for name in required:
        if name not in manifest.files:
            raise _invalid(folder, name, "is not listed in the manifest")
    for name in manifest.files:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or not (folder / name).is_file():
            raise _invalid(folder, name, "is listed in the manifest but is no file of the version")
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise _invalid(folder, name, "leads out of the version's folder")
    for name, digest in file_digests(folder, rest).items():
        if name not in manifest.files:
            raise _invalid(folder, name, "is not listed in the manifest")
        if digest != manifest.files[name]:
            raise _invalid(folder, name, "has not the sha256 that the manifest gives")


def _read_vectors(folder: Path, item_ids: list[str], rest: Rest) -> NDArray[np.float32]:
    vectors = read_array(folder, ITEM_VECTORS)
    if vectors.dtype != np.float32 or vectors.ndim != 2:
        raise _invalid(folder, ITEM_VECTORS, "must hold float32 [items, width]")
    different = _count_different(item_ids, rest)
    if not len(vectors) == len(item_ids) == different:
        raise _invalid(
            folder, ITEM_VECTORS, f"has {len(vectors)} rows for {different} different ids"
        )
    if not len(vectors) or not np.isfinite(vectors).all():
        raise _invalid(folder, ITEM_VECTORS, "is empty or holds values that are not finite")
    rest()
    return vectors


def read_points(folder: Path, items: int) -> NDArray[np.float32]:
    """Return where a version's items lie on its map, `[items, 2]`. Raises `ArtifactInvalid`."""
    points = read_array(folder, MAP)
    if points.dtype != np.float32 or points.shape != (items, 2) or not np.isfinite(points).all():
        raise _invalid(folder, MAP, f"must hold float32 [{items}, 2], all of them finite")
    return points


def _count_different(item_ids: list[str], rest: Rest) -> int:
    """Return how many different ids there are; in pieces, so that other threads run in between."""
    different: set[str] = set()
    for first in range(0, len(item_ids), _IDS_AT_ONCE):
        different.update(item_ids[first : first + _IDS_AT_ONCE])
        rest()
    return len(different)


def _read_rules(folder: Path, items: int, rest: Rest) -> Rules:
    rules = Rules(*(read_array(folder, name) for name in RULES))
    rest()
    flaw = rules.flaw()
    rest()
    if flaw is None and rules.items != items:
        flaw = f"are of {rules.items} items where the version has {items}"
    if flaw is not None:
        raise _invalid(folder, "rules_*.npy", flaw)
    return rules


def read_array(folder: Path, name: str) -> NDArray[Any]:
    """Return an array of a version; nothing is unpickled. Raises `ArtifactInvalid`."""
    try:
        array: NDArray[Any] = np.load(folder / name, allow_pickle=False)
    except (EOFError, OSError, ValueError) as exc:
        raise _invalid(folder, name, str(exc)) from exc
    return array


def _read_bought_together(folder: Path, manifest: Manifest, items: int) -> BoughtTogether:
    if not _has_folder(manifest, BOUGHT_TOGETHER):
        return BoughtTogether.nothing(items)
    try:
        return BoughtTogether.load(folder / BOUGHT_TOGETHER, items)
    except (OSError, ValueError) as exc:
        raise _invalid(folder, f"{BOUGHT_TOGETHER}/", f"cannot be used: {exc}") from exc


def _has_folder(manifest: Manifest, name: str) -> bool:
    return any(file.startswith(f"{name}/") for file in manifest.files)


def decode_file(folder: Path, name: str, of: type[Any]) -> Any:
    """Return what a file of JSON of a version says. Raises `ArtifactInvalid`."""
    return _decoded(folder, name, read_bytes(folder, name), of)


def _decoded(folder: Path, name: str, raw: bytes, of: type[Any]) -> Any:
    try:
        return msgspec.json.decode(raw, type=of)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise _invalid(folder, name, str(exc)) from exc


def read_bytes(folder: Path, name: str) -> bytes:
    """Return what a file of a version holds. Raises `ArtifactInvalid`."""
    try:
        return (folder / name).read_bytes()
    except OSError as exc:
        raise _invalid(folder, name, f"cannot be read: {exc.strerror}") from exc


def _sha256(path: Path, rest: Rest) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            rest()
    return digest.hexdigest()


def _invalid(folder: Path, name: str, reason: str) -> ArtifactInvalid:
    return ArtifactInvalid(f"Version {folder.name}: {name} {reason}; train or fetch it again.")
