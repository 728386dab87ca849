"""Loads one version aside: what comes of it answers as it did where it was trained, or is refused.

1. Its manifest is of this model and version, and signed by a trusted key, if keys are set.
2. Its files are fetched, if they lie elsewhere, and have the sums that the manifest gives.
3. Its parts fit one another, and this program.
4. Its probes are answered as they were when it was written, be they sessions or lists.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from headrace.artifact_store import ArtifactStore
from headrace.errors import ArtifactInvalid
from headrace.settings import Settings
from headrace.signatures import TrustedKeys
from headrace.versions import Check, Manifest
from models.retrieval.artifact import Artifact, load_artifact
from models.retrieval.item_map import ItemMap, read_map
from models.retrieval.probes import check_probes, load_probes
from models.retrieval.ranker import Ranker
from models.retrieval.ranker_probes import check_ranker_probes, load_ranker_probes
from models.retrieval.retriever import Retriever
from models.retrieval.throttle import Rest, no_rest

_Read = TypeVar("_Read", Artifact, Ranker)


class VersionLoader:
    """Loads versions from where the settings say that they lie. It blocks."""

    def __init__(self, settings: Settings) -> None:
        """Raises `InvalidSetting` for keys or an address that cannot be used."""
        self._store = ArtifactStore(settings)
        self._trusted = TrustedKeys.of(settings.versions)
        self._second_stage = settings.serving.ranking_model_id

    @property
    def store(self) -> ArtifactStore:
        """Where the versions lie."""
        return self._store

    def check(self, model_id: str, version: str) -> None:
        """Raise what loading a version raises that no server would take up, whatever its kind."""
        ranks = self._ranks(model_id, version)
        (self.load_ranker if ranks else self.load)(model_id, version)

    def check_files(self, model_id: str, version: str) -> None:
        """Raise what `check` raises, but for the probes: enough for one that was served before."""
        if self._ranks(model_id, version):
            self._read(model_id, version, Ranker)
        else:
            self.read(model_id, version)

    def load_ranker(self, model_id: str, version: str) -> Ranker:
        """Return a version of the kind `ranking`, checked. Raises what `load` raises."""
        ranker = self._read(model_id, version, Ranker)
        try:
            check_ranker_probes(ranker, load_ranker_probes(ranker))
        except ArtifactInvalid:
            self._store.discard(model_id, version)
            raise
        return ranker

    def load(self, model_id: str, version: str, rest: Rest = no_rest) -> Retriever:
        """Return the version, checked, and not yet level with the catalogue.

        `rest` is called between steps of some milliseconds to some tens of them.

        Raises `VersionNotFound`, `ArtifactInvalid`, which a second stage is here, and
        `StoreUnavailable`.
        """
        if self._ranks(model_id, version):
            raise ArtifactInvalid(
                f"Version {version} is a second stage, and finds nothing by itself: it serves as a "
                f"version of model {self._second_stage} alone. Delete model {model_id}, and create "
                "it anew to train another kind."
            )
        artifact = self.read(model_id, version, rest)
        try:
            retriever = Retriever(artifact)
            rest()
            check_probes(retriever, load_probes(artifact), rest)
        except ArtifactInvalid:
            self._store.discard(model_id, version)
            raise
        return retriever

    def read_map(self, model_id: str, version: str) -> ItemMap | None:
        """Return the map of a version's items; None: it has none. Raises what `load` does."""
        check = partial(self._trusted.check, version)
        return read_map(self._store.fetch(model_id, version, check), check)

    def read(self, model_id: str, version: str, rest: Rest = no_rest) -> Artifact:
        """Return the version's files, checked. Raises what `load` does."""
        return self._read(model_id, version, partial(load_artifact, rest=rest))

    def _read(self, model_id: str, version: str, load: Callable[[Path, Check], _Read]) -> _Read:
        check = partial(self._trusted.check, version)
        folder = self._store.fetch(model_id, version, check)
        try:
            found = load(folder, check)
            _check_name(found.manifest, model_id, version)
        except ArtifactInvalid:
            # It may have been mended where it came from when it is asked for again.
            self._store.discard(model_id, version)
            raise
        return found

    def _ranks(self, model_id: str, version: str) -> bool:
        manifest = self._store.manifest(model_id, version)
        return manifest is not None and manifest.kind == "ranking"


def _check_name(manifest: Manifest, model_id: str, version: str) -> None:
    named = (manifest.model_id, manifest.version)
    if named != (model_id, version):
        raise ArtifactInvalid(
            f"Version {version}: its manifest.json is of version {named[1]} of model {named[0]}; "
            "train or fetch it again."
        )
