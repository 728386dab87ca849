"""What is said of a new version beside another one, from the ranks that both gave the same events.

A version is rejected when its NDCG@10 is lower by more than the tolerance, and the 95 % interval of
the difference, by the paired bootstrap over users, is wholly below 0: worse, and not by chance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.versions import Verdict
from models.training.bootstrap import paired_difference
from models.training.metrics import Ranks, hr, ndcg

K = 10


def verdict_of(
    new: Ranks,
    old: Ranks,
    users: NDArray[np.int32],
    *,
    against: str,
    live: str | None,
    since: float,
    tolerance: float,
    refused: bool = False,
) -> Verdict:
    """Return the verdict, without its reason, on `[n]` ranks of the same events of these users.

    `refused`: it is rejected whatever was measured; the rest is that of `Verdict`.
    """
    difference = paired_difference(_gains(new), _gains(old), users)
    worse = difference.share < -tolerance and difference.high < 0
    return Verdict(
        accepted=not (worse or refused),
        reason="",
        against=against,
        live=live,
        events=len(new),
        users=len(np.unique(users)),
        since=since,
        ndcg_at_10=ndcg(new, K),
        baseline_ndcg_at_10=ndcg(old, K),
        hr_at_10=hr(new, K),
        baseline_hr_at_10=hr(old, K),
        difference=difference.share,
        low=difference.low,
        high=difference.high,
        tolerance=tolerance,
    )


def in_words(verdict: Verdict, *, beside: str, events: str) -> str:
    """Return what was measured, beside what, on what sort of events, and what that shows."""
    measured = (
        f"NDCG@10 is {verdict.ndcg_at_10:.4f} beside {verdict.baseline_ndcg_at_10:.4f} of "
        f"{beside} ({_percent(verdict.difference, '+')}, 95\u00a0% interval "
        f"{_percent(verdict.low, '+')} to {_percent(verdict.high, '+')}) on {verdict.events:,} "
        f"held-out {events} of {verdict.users:,} users"
    )
    tolerance = _percent(verdict.tolerance)
    if not verdict.accepted:
        return f"{measured}: worse by more than {tolerance}, and not by chance."
    # What is lower by more than that passes because its interval reaches 0.
    shown = "shown to be " if verdict.difference < -verdict.tolerance else ""
    return f"{measured}: not {shown}worse by more than {tolerance}."


def _percent(share: float, sign: str = "") -> str:
    """Return a share as people read it; with `sign` a difference, always with its own."""
    return f"{100 * share:{sign}.1f}\u00a0%".replace("-", "\N{MINUS SIGN}")


def _gains(ranks: Ranks) -> NDArray[np.float64]:
    """Return `[n]`: what each event adds to NDCG@10."""
    return np.where(ranks <= K, 1.0 / np.log2(1.0 + ranks), 0.0)
