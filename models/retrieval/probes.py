"""Probe sessions: what a version answered when it was written, which whoever loads it compares.

They are made up, not users' own, so that nothing of a user stays in a version. A version that
answers otherwise on another machine has been damaged past what sums of its files tell, or this
machine computes something else: either way it is not to be served.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct

from headrace.errors import ArtifactInvalid
from headrace.events import KINDS
from headrace.sessions import Session
from models.retrieval.artifact import PROBES as PROBES_FILE
from models.retrieval.artifact import Artifact
from models.retrieval.retriever import Retriever
from models.retrieval.throttle import Rest, no_rest

COUNT = 100
K = 10
"""Items in an answer."""
TOLERANCE = 1e-3
"""Largest difference let pass between two scores, which are probabilities."""
LEAST_FOUND = 0.95
"""Share of all items answered that must be answered again: equal scores change places, and an
index computes a little otherwise on another processor."""
_LONGEST = 30
"""Interactions of a made-up session."""


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What a version said of one probe."""

    item_ids: list[str]
    scores: list[float]


class Probes(Struct, frozen=True, forbid_unknown_fields=True):
    """Sessions and answers, one for each; `probes.json` in the artefact."""

    sessions: list[Session]
    answers: list[Answer]


def ask_probes(retriever: Retriever, item_ids: Sequence[str], seed: int = 0) -> Probes:
    """Make sessions of these items up, and ask a version that was just loaded for its answers."""
    rng = np.random.default_rng(seed)
    sessions = [_made_up(rng, item_ids) for _ in range(COUNT)]
    return Probes(sessions, [_answer(retriever, session) for session in sessions])


def load_probes(artifact: Artifact) -> Probes:
    """Read a version's probes. Raises `ArtifactInvalid` when it has none that can be read."""
    try:
        if PROBES_FILE not in artifact.manifest.files:
            raise FileNotFoundError("not listed in the manifest")
        return msgspec.json.decode((artifact.folder / PROBES_FILE).read_bytes(), type=Probes)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ArtifactInvalid(
            f"Version {artifact.manifest.version}: {PROBES_FILE}: {exc}; train again."
        ) from exc


def check_probes(retriever: Retriever, probes: Probes, rest: Rest = no_rest) -> None:
    """Ask a version that was just loaded the same again; `rest` is called after each question.

    Raises `ArtifactInvalid` when it answers otherwise than it did.
    """
    if not probes.sessions or len(probes.sessions) != len(probes.answers):
        raise _invalid(retriever, f"{len(probes.sessions)} sessions, {len(probes.answers)} answers")
    found = total = 0
    for place, (session, answer) in enumerate(zip(probes.sessions, probes.answers, strict=True)):
        if len(answer.item_ids) != len(answer.scores):
            raise _invalid(retriever, f"answer {place} has not a score for each item")
        now = _answer(retriever, session)
        found += len(set(now.item_ids) & set(answer.item_ids))
        total += max(len(now.item_ids), len(answer.item_ids))
        again = retriever.score(session, answer.item_ids)
        scores = [0.0] * len(answer.scores) if again is None else again.scores
        rest()
        apart = float(np.abs(np.subtract(scores, answer.scores)).max(initial=0.0))
        if not apart <= TOLERANCE:
            raise _invalid(
                retriever,
                f"to session {place} a score differs by {apart:.2g}, at most {TOLERANCE:g}",
            )
    if found < LEAST_FOUND * total:
        raise _invalid(retriever, f"{found} of {total} items are answered again")


def _answer(retriever: Retriever, session: Session) -> Answer:
    answer = retriever.recommend(session, K)
    return Answer(answer.item_ids, answer.scores) if answer else Answer([], [])


def _made_up(rng: np.random.Generator, item_ids: Sequence[str]) -> Session:
    drawn = np.unique(rng.integers(0, len(item_ids), rng.integers(1, _LONGEST + 1)))
    items = rng.permutation(drawn).tolist()
    length = len(items)
    kinds = [KINDS[kind] for kind in rng.integers(0, len(KINDS), length)]
    ratings = rng.integers(1, 6, length).astype(float).tolist()
    return Session(
        item_ids=tuple(item_ids[item] for item in items),
        timestamps=tuple(np.cumsum(rng.exponential(300.0, length)).tolist()),
        kinds=tuple(kinds),
        ratings=tuple(
            rating if kind == "rating" else None
            for kind, rating in zip(kinds, ratings, strict=True)
        ),
    )


def _invalid(retriever: Retriever, reason: str) -> ArtifactInvalid:
    return ArtifactInvalid(
        f"Version {retriever.manifest.version}: its probes are not answered as they were when it "
        f"was written: {reason}; train or fetch it again."
    )
