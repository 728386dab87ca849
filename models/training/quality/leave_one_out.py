"""Leave-one-out: each user's last item is the test, the one before it validation.

As in SASRec (Kang & McAuley, 2018), but with all items ranked; what the user has met is not
recommended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.events import EventColumns
from models.training.quality.queries import Queries, histories, select

_LEAST = 3
"""Events of a user without whom there is nothing to learn from; users with fewer only train."""


@dataclass(frozen=True)
class Split:
    """What is trained on, chosen on and, once, tested on."""

    train: EventColumns
    validation: Queries
    """Sessions of what is trained on; the targets are the users' last but one items."""
    test: Queries
    """Sessions of all but the last item; the targets are the last."""


def split(log: EventColumns) -> Split:
    """Split a log."""
    data = histories(log)
    last = np.flatnonzero(np.diff(data.log.user, append=-1))
    last = last[last - data.first[last] >= _LEAST - 1]
    kept = np.ones(len(log), np.bool_)
    kept[data.event[np.concatenate([last, last - 1])]] = False
    return Split(select(log, kept), data.queries(last - 1), data.queries(last))
