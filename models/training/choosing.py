"""What the hold-out chooses: how much the rules say, and what a score is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from models.retrieval.blend import Blend
from models.retrieval.calibration import Calibration
from models.training.calibration import fit_calibration
from models.training.course import Course
from models.training.evaluation import Evaluator, K, RulesSoFar
from models.training.metrics import hr, ndcg
from models.training.parameters import Parameters
from models.training.session_model import SessionModel

_SHARES = (0.3, 0.2, 0.4, 0.1, 0.5, 0.0, 0.6, 0.7, 0.8, 0.9)
"""Of the rules in a score, of which the hold-out chooses one; of equally good ones the first."""
_FEWEST_JUDGED = 100
"""Events to predict, below which a hold-out is too small to choose by."""


@dataclass(frozen=True)
class Fitted:
    """A model, and what the hold-out said of it."""

    model: SessionModel
    blend: Blend
    calibration: Calibration
    """Of the blend's scores."""
    towers_calibration: Calibration
    """Of the scores that the towers alone give."""
    metrics: dict[str, float]


def choose(course: Course, model: SessionModel, parameters: Parameters) -> Fitted:
    """Return the model with what the hold-out says of it.

    A hold-out that is too small to choose by leaves the base version's choices as they are.
    """
    judge = course.evaluator(parameters.evaluation_events, parameters)
    rules = course.rules(course.known, course.items)

    def rules_so_far() -> RulesSoFar:
        return RulesSoFar(course.judged, rules, course.split)

    few = course.counted is not None and len(judge) < _FEWEST_JUDGED
    base = course.counted.base if course.counted and few else None
    blends = _blends(parameters) if base is None else [base.artifact.blend]
    blend, metrics = _choose_blend(judge, model, rules_so_far, blends)
    popularity = np.bincount(course.known.item, minlength=course.items).astype(np.float32)
    metrics["popularity_hr_at_10"] = hr(judge.popularity(popularity), K)
    if base is not None:
        return Fitted(
            model, blend, base.artifact.calibration, base.weights.towers_calibration, metrics
        )
    calibration, towers_calibration = _calibrate(judge, model, rules_so_far(), blend)
    return Fitted(model, blend, calibration, towers_calibration, metrics)


def _choose_blend(
    evaluator: Evaluator,
    model: SessionModel,
    rules: Callable[[], RulesSoFar],
    blends: Sequence[Blend],
) -> tuple[Blend, dict[str, float]]:
    """Return the blend that lists best on the hold-out, and what it and its parts reach there."""
    parts = [msgspec.structs.replace(blends[0], rules=share) for share in (0.0, 1.0)]
    towers, alone, *found = evaluator.blended(model, rules(), [*parts, *blends])
    best = int(np.argmax([ndcg(each, K) for each in found]))
    return blends[best], {
        "hr_at_10": hr(found[best], K),
        "ndcg_at_10": ndcg(found[best], K),
        "towers_hr_at_10": hr(towers, K),
        "rules_hr_at_10": hr(alone, K),
        "rules_share": blends[best].rules,
        "events": float(len(towers)),
    }


def _blends(parameters: Parameters) -> list[Blend]:
    """Return the blends of which the hold-out chooses."""
    shares = [*_SHARES] if parameters.rules_share < 0 else [parameters.rules_share]
    return [
        Blend(
            rules=share,
            last=parameters.rules_last,
            decay=parameters.rules_decay,
            smoothing=parameters.rules_smoothing,
            candidates=parameters.blend_candidates,
        )
        for share in shares
    ]


def _calibrate(
    evaluator: Evaluator, model: SessionModel, rules: RulesSoFar, blend: Blend
) -> tuple[Calibration, Calibration]:
    """Return what the blend's scores are worth on the hold-out, and what the towers' alone are."""
    towers = msgspec.structs.replace(blend, rules=0.0)
    blends = [blend, towers] if blend.rules else [blend]
    lists = evaluator.lists(model, rules, blends)
    found = [fit_calibration(each.scores, each.came_true) for each in lists]
    return found[0], found[-1]
