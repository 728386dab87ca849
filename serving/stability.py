"""Changing a list that is looked at by a few items at a time."""

from __future__ import annotations

from collections.abc import Sequence

from serving.schemas.recommendations import Recommendation


def settle(
    wanted: Sequence[Recommendation], shown: Sequence[Recommendation], changes: int
) -> list[Recommendation]:
    """Return the list to show next: as long as `wanted`, with at most `changes` of its newcomers.

    `shown` holds what was shown so far and still may be. Places of items that may not be shown any
    more are filled beyond that number. What stays of `shown` without being wanted comes last.
    """
    were_shown = {row.id for row in shown}
    wanted_ids = {row.id for row in wanted}
    leftover = [row for row in shown if row.id not in wanted_ids]
    newcomers = sum(row.id not in were_shown for row in wanted)
    free = max(0, newcomers - len(leftover))
    admitted = min(newcomers, free + changes)
    chosen: list[Recommendation] = []
    for row in wanted:
        if row.id not in were_shown:
            if admitted == 0:
                continue
            admitted -= 1
        chosen.append(row)
    return chosen + leftover[: len(wanted) - len(chosen)]
