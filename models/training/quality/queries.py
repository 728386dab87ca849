"""What a model is asked: after this session, what comes next?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headrace.events import EventColumns


@dataclass(frozen=True)
class Queries:
    """n sessions and what came next.

    Session q is the rows `start[q]:end[q]` of the columns, oldest first; it may be empty.
    """

    user: NDArray[np.int32]
    """This and the next four are `[events]`, sorted by (user, time)."""
    item: NDArray[np.int32]
    """Codes into `item_ids` of the log that the queries come from."""
    timestamp: NDArray[np.float64]
    """Unix seconds."""
    kind: NDArray[np.int8]
    rating: NDArray[np.float32]
    start: NDArray[np.int64]
    """This and the next two are `[n]`."""
    end: NDArray[np.int64]
    target: NDArray[np.int32]
    """The code of the item that came next."""

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Queries:
        """Return some of the queries, on the same columns."""
        return replace(self, start=self.start[rows], end=self.end[rows], target=self.target[rows])

    def as_log(self, items: int) -> tuple[EventColumns, NDArray[np.int64]]:
        """Return a log of n users, each with a query's session and then its target, user by user.

        Beside it `[n]`, the rows of the targets, of which nothing but the item is known. Items with
        codes from `items` on are unknown: -1.
        """
        lengths = self.end - self.start + 1
        user = np.repeat(np.arange(len(self), dtype=np.int32), lengths)
        targets = np.cumsum(lengths) - 1
        before_target = targets[user] - np.arange(len(user))
        # A target need not stand in the row after its session, nor need there be one.
        row = np.minimum(self.end[user] - before_target, len(self.item) - 1)
        item = self.item[row]
        item[targets] = self.target
        log = EventColumns(
            user=user,
            item=np.where(item < items, item, np.int32(-1)),
            timestamp=self.timestamp[row],
            kind=self.kind[row],
            rating=self.rating[row],
            user_ids=("",) * len(self),
            item_ids=("",) * items,
            through={},
        )
        return log, targets


@dataclass(frozen=True)
class Histories:
    """A log sorted by (user, time), with the row at which each user begins."""

    log: EventColumns
    """Its events sorted by (user, time), not by time as in a log that was read."""
    first: NDArray[np.int64]
    """`[events]`: the row at which this event's user begins."""
    event: NDArray[np.int64]
    """`[events]`: the event's place in the log as it was read."""

    def __len__(self) -> int:
        return len(self.event)

    def queries(self, rows: NDArray[np.int64]) -> Queries:
        """Return the queries whose targets are these rows: sessions are all that came before."""
        return self.sessions(self.first[rows], rows, self.log.item[rows])

    def sessions(
        self, start: NDArray[np.int64], end: NDArray[np.int64], target: NDArray[np.int32]
    ) -> Queries:
        """Return queries of these sessions."""
        log = self.log
        return Queries(log.user, log.item, log.timestamp, log.kind, log.rating, start, end, target)


def histories(log: EventColumns) -> Histories:
    """Sort a log into users' histories; equal times keep the log's order."""
    order = np.argsort(log.user, kind="stable")
    user = log.user[order]
    begins = np.flatnonzero(np.diff(user, prepend=-1))
    first = np.repeat(begins, np.diff(begins, append=len(user)))
    return Histories(_rows(log, order), first, order)


def select(log: EventColumns, kept: NDArray[np.bool_]) -> EventColumns:
    """Return the log's events that are marked, in the log's order, with all its ids."""
    return _rows(log, np.flatnonzero(kept))


def reordered(log: EventColumns, order: NDArray[np.int64]) -> EventColumns:
    """Return the log with its rows in this order, a second apart."""
    return replace(_rows(log, order), timestamp=np.arange(len(order), dtype=np.float64))


def join(logs: tuple[EventColumns, ...]) -> EventColumns:
    """Return logs that share their `item_ids` and no user as one, one after another in time."""
    users = np.cumsum([0, *(len(log.user_ids) for log in logs)])
    # Logs that know order alone all begin at 0 seconds.
    times = np.cumsum([0.0, *(log.timestamp.max(initial=-1.0) + 1.0 for log in logs)])
    return EventColumns(
        user=np.concatenate([log.user + np.int32(n) for log, n in zip(logs, users, strict=False)]),
        item=np.concatenate([log.item for log in logs]),
        timestamp=np.concatenate([log.timestamp + t for log, t in zip(logs, times, strict=False)]),
        kind=np.concatenate([log.kind for log in logs]),
        rating=np.concatenate([log.rating for log in logs]),
        user_ids=tuple(f"{n}-{name}" for n, log in enumerate(logs) for name in log.user_ids),
        item_ids=logs[0].item_ids,
        through={"clicks": {"0": sum(len(log) for log in logs)}},
    )


def _rows(log: EventColumns, rows: NDArray[np.int64]) -> EventColumns:
    return replace(
        log,
        user=log.user[rows],
        item=log.item[rows],
        timestamp=log.timestamp[rows],
        kind=log.kind[rows],
        rating=log.rating[rows],
    )
