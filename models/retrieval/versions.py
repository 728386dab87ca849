"""Whether a version can be loaded, whatever its kind."""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace.errors import ArtifactInvalid
from headrace.versions import Check, Manifest, read_manifest
from models.retrieval.artifact import load_artifact
from models.retrieval.ranker import Ranker


def check_version(folder: Path, check: Check = lambda *_: None) -> Manifest:
    """Return the manifest of a version that a server could load. Raises `ArtifactInvalid`.

    `check` is asked of its signature first.
    """
    try:
        manifest = read_manifest(folder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ArtifactInvalid(f"Version {folder.name}: manifest.json {exc}; train again.") from exc
    if manifest is not None and manifest.kind == "ranking":
        return Ranker(folder, check).manifest
    return load_artifact(folder, check).manifest
