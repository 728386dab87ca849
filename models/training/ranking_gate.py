"""The gate of the kind `ranking`: a new second stage is measured beside the one that serves.

Both reorder the same held-out lists, newer than what either learnt from, as a server has them do
it: by their exported files. The items' figures that they read were counted before all lists, for
both alike: a version's own would know of what is asked for. The first version of a model is
measured beside retrieval alone.

A version is rejected by the rule of `models.training.verdicts`.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.settings import GateSettings
from headrace.versions import Verdict
from models.retrieval.ranker import CANDIDATES, Ranker, Scorer
from models.training.metrics import Ranks, hr, ndcg, ranks
from models.training.ranking_lists import Examples
from models.training.verdicts import K, in_words, verdict_of

RETRIEVAL_ALONE = "retrieval"
"""What a model's first version is measured beside."""


@dataclass(frozen=True)
class RankingGate:
    """Judges new second stages beside the one that is live, None before the first."""

    settings: GateSettings
    live: Ranker | None
    serving: str | None
    """The live version's name; it may be live and damaged."""

    def judge(self, scorer: Scorer, judged: Examples, since: float) -> Verdict:
        """Measure a second stage, as exported, on lists that it did not learn from.

        `since`: Unix seconds; what the lists wanted came after it.
        """
        against, known = RETRIEVAL_ALONE, since
        if self.live is not None:
            data = self.live.manifest.data
            against = self.live.manifest.version
            known = max(since, data.to_timestamp if data.fitted_to is None else data.fitted_to)
        lists = judged.after(known)
        new = ranks_of(scores_of(scorer, lists), lists)
        live = retrieved(lists) if self.live is None else scores_of(self.live.scorer, lists)
        old = ranks_of(live, lists)
        verdict = verdict_of(
            new,
            old,
            lists.users,
            against=against,
            live=self.serving,
            since=known,
            tolerance=self.settings.tolerance,
            # Lists that are not new to the live version say nothing of it.
            refused=self.live is not None and not len(new),
        )
        return msgspec.structs.replace(verdict, reason=_reason(verdict))


def scores_of(scorer: Scorer, examples: Examples) -> NDArray[np.float32]:
    """Return `[q, CANDIDATES]`: what an exported second stage gives each candidate."""
    scores = np.zeros(examples.there.shape, np.float32)
    for row, n in enumerate(examples.there.sum(axis=1).tolist()):
        scores[row, :n] = scorer(examples.features[row, :n])
    return scores


def retrieved(examples: Examples) -> NDArray[np.float32]:
    """Return `[q, CANDIDATES]`: what retrieval alone gives each candidate."""
    return examples.features[..., 0]


def ranks_of(scores: NDArray[np.float32], examples: Examples) -> Ranks:
    """Return `[q]`: equal scores count against a list, and what was not found is a miss."""
    wanted = np.where(examples.wanted >= 0, examples.wanted, CANDIDATES)
    return ranks(scores, wanted.astype(np.int32), examples.there)


def figures_of(scores: NDArray[np.float32], examples: Examples) -> dict[str, float]:
    """Return what the lists are worth when they are in the order of their scores."""
    found = ranks_of(scores, examples)
    return {"ndcg_at_10": ndcg(found, K), "hr_at_10": hr(found, K)}


def _reason(verdict: Verdict) -> str:
    if not verdict.events and verdict.against != RETRIEVAL_ALONE:
        return (
            f"No held-out list is newer than what it and version {verdict.against} were fitted "
            "to, so there is nothing to measure both on."
        )
    if not verdict.events:
        return "No list is held out, so there is nothing to measure it on."
    beside = "retrieval alone" if verdict.against == RETRIEVAL_ALONE else verdict.against
    return in_words(verdict, beside=beside, events="lists")
