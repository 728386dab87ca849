"""The towers and the index of a version, checked against its item vectors and this program."""

from __future__ import annotations

from headrace.errors import ArtifactInvalid
from models.retrieval.artifact import CANDIDATE_TOWER, INDEX, QUERY_TOWER, Artifact
from models.retrieval.features import INTERACTION_FEATURES, SLOTS
from models.retrieval.index import ExactIndex, ItemIndex, ScannIndex
from models.retrieval.tower import CandidateTower, QueryTower


def load_towers(artifact: Artifact) -> tuple[QueryTower, CandidateTower]:
    """Return the version's towers. Raises `ArtifactInvalid` for ones that do not fit."""
    try:
        query_tower = QueryTower(artifact.query_tower)
        candidate_tower = CandidateTower(artifact.candidate_tower)
    except (KeyError, RuntimeError, ValueError) as exc:
        raise ArtifactInvalid(f"Version {artifact.manifest.version}: a tower: {exc}") from exc
    width = artifact.item_vectors.shape[1]
    for name, has, needs in (
        (QUERY_TOWER, query_tower.width, width),
        (QUERY_TOWER, query_tower.features, INTERACTION_FEATURES),
        (CANDIDATE_TOWER, candidate_tower.slots, SLOTS),
    ):
        if has != needs:
            raise ArtifactInvalid(
                f"Version {artifact.manifest.version}: {name} takes {has} values where this "
                f"program gives {needs}; train again."
            )
    return query_tower, candidate_tower


def load_index(artifact: Artifact) -> ItemIndex:
    """Return the version's index, an exact one where it has none. Raises `ArtifactInvalid`."""
    if not artifact.has_index:
        return ExactIndex(artifact.item_vectors)
    try:
        return ScannIndex.load(artifact.folder / INDEX, len(artifact.item_ids))
    except (OSError, RuntimeError, ValueError) as exc:
        raise ArtifactInvalid(f"Version {artifact.manifest.version}: {INDEX}/: {exc}") from exc
