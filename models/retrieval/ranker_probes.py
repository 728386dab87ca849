"""Probe lists: in which order a second stage put them when it was written, and with what scores.

They are made up, as the probe sessions of other versions are (`models.retrieval.probes`), and for
the same reasons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from headrace.errors import ArtifactInvalid
from models.retrieval.artifact import PROBES, decode_file
from models.retrieval.candidates import CANDIDATE_FEATURES, Candidates
from models.retrieval.probes import COUNT, LEAST_FOUND, TOLERANCE, Answer
from models.retrieval.ranker import Ranker
from models.retrieval.recommendations import Recommendations

_LONGEST = 20
"""Candidates of a made-up list."""
_DECIMALS = 4
"""Of a made-up feature."""


class ProbeList(Struct, frozen=True, forbid_unknown_fields=True):
    """A list of candidates, and what a version made of it."""

    item_ids: list[str]
    features: list[list[float]]
    """`[n, CANDIDATE_FEATURES]`"""
    answer: Answer


def ask_ranker_probes(
    ranker: Ranker,
    item_ids: Sequence[str],
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
    seed: int = 0,
) -> list[ProbeList]:
    """Make lists of these items up, and ask a version that was just loaded what it makes of them.

    `mean`, `deviation`: `[CANDIDATE_FEATURES]`, of what it has learnt from. Raises
    `ArtifactInvalid` when it answers with no numbers.
    """
    rng = np.random.default_rng(seed)
    return [
        ProbeList(drawn, features, _answer(ranker, drawn, features))
        for drawn, features in _made_up(rng, item_ids, mean, deviation)
    ]


def check_ranker_probes(ranker: Ranker, probes: Sequence[ProbeList]) -> None:
    """Ask a version that was just loaded the same again.

    Raises `ArtifactInvalid` when it answers otherwise than it did.
    """
    if not probes:
        raise _invalid(ranker, "there are none")
    found = total = 0
    for place, probe in enumerate(probes):
        before, now = probe.answer, _answer(ranker, probe.item_ids, probe.features)
        if not len(before.item_ids) == len(before.scores) == len(now.item_ids):
            raise _invalid(ranker, f"answer {place} has not a score for each candidate")
        scores = dict(zip(now.item_ids, now.scores, strict=True))
        again = [scores.get(item_id, 0.0) for item_id in before.item_ids]
        apart = float(np.abs(np.subtract(again, before.scores)).max(initial=0.0))
        if not apart <= TOLERANCE:
            raise _invalid(
                ranker, f"in list {place} a score differs by {apart:.2g}, at most {TOLERANCE:g}"
            )
        # Scores that are equal, or nearly, change places.
        found += sum(map(str.__eq__, now.item_ids, before.item_ids))
        total += len(before.item_ids)
    if found < LEAST_FOUND * total:
        raise _invalid(ranker, f"{found} of {total} candidates are in the same place again")


def load_ranker_probes(ranker: Ranker) -> list[ProbeList]:
    """Read a version's probes. Raises `ArtifactInvalid` when it has none that can be read."""
    if PROBES not in ranker.manifest.files:
        raise ArtifactInvalid(
            f"Version {ranker.manifest.version}: {PROBES}: not listed in the manifest; train again."
        )
    probes: list[ProbeList] = decode_file(ranker.folder, PROBES, list[ProbeList])
    return probes


def _made_up(
    rng: np.random.Generator,
    item_ids: Sequence[str],
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
) -> Iterator[tuple[list[str], list[list[float]]]]:
    for _ in range(COUNT):
        drawn = np.unique(rng.integers(0, len(item_ids), rng.integers(2, _LONGEST + 1)))
        chance = rng.normal(size=(len(drawn), CANDIDATE_FEATURES))
        features = np.round(mean + deviation * chance, _DECIMALS)
        yield [item_ids[item] for item in drawn.tolist()], features.tolist()


def _answer(ranker: Ranker, item_ids: list[str], features: list[list[float]]) -> Answer:
    n = len(item_ids)
    try:
        of_candidates = np.array(features, np.float32).reshape(n, CANDIDATE_FEATURES)
        items = Recommendations(item_ids, [0.0] * n, [False] * n)
        answer = ranker.reordered(Candidates(items, of_candidates))
    except (FloatingPointError, ValueError) as exc:
        raise _invalid(ranker, str(exc)) from exc
    return Answer(answer.item_ids, answer.scores)


def _invalid(ranker: Ranker, reason: str) -> ArtifactInvalid:
    return ArtifactInvalid(
        f"Version {ranker.manifest.version}: its probes are not answered as they were when it was "
        f"written: {reason}; train or fetch it again."
    )
