"""The log of events as training reads it: users' histories, and windows of them packed in rows.

A history is a user's events in time order; a window is a piece of one, at most `session_length`
long, which the query tower sees as it sees a session when serving. Each position of a window is an
example: what stands up to there is the session, and the user's next positive events are the
targets, as in SASRec (Kang & McAuley, 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.events import KINDS, EventColumns
from models.retrieval.features import interaction_features
from models.training.packing import pack
from models.training.parameters import Parameters


@dataclass(frozen=True)
class Histories:
    """n events sorted by (user, time). A row's number is its *position*."""

    event: NDArray[np.int64]
    """The event's number in the columns, which is its place in time."""
    item: NDArray[np.int32]
    """1 + the item's code; 0 stands for an item that is not known."""
    features: NDArray[np.float32]
    """`[n, INTERACTION_FEATURES]`."""
    first: NDArray[np.int64]
    """The position at which this event's user begins."""
    is_positive: NDArray[np.bool_]
    is_target: NDArray[np.bool_]
    """Whether to predict it: its user's first positive event with this item, or with `repeats`
    any positive event."""
    is_new: NDArray[np.bool_]
    """Whether it is its user's first event of any kind with this item."""

    def __len__(self) -> int:
        return len(self.event)


def before(columns: EventColumns, events: int) -> EventColumns:
    """Return the first `events` of the log."""
    return replace(
        columns,
        user=columns.user[:events],
        item=columns.item[:events],
        timestamp=columns.timestamp[:events],
        kind=columns.kind[:events],
        rating=columns.rating[:events],
    )


def among(columns: EventColumns, kept: NDArray[np.bool_]) -> EventColumns:
    """Return the events of the log that are marked."""
    return replace(
        columns,
        user=columns.user[kept],
        item=columns.item[kept],
        timestamp=columns.timestamp[kept],
        kind=columns.kind[kept],
        rating=columns.rating[kept],
    )


def histories(columns: EventColumns, parameters: Parameters) -> Histories:
    """Sort the log into users' histories."""
    order = np.argsort(columns.user, kind="stable")
    user, item = columns.user[order], columns.item[order]
    begins = np.flatnonzero(np.diff(user, prepend=-1))
    first = np.repeat(begins, np.diff(begins, append=len(user)))
    gaps = np.diff(columns.timestamp[order], prepend=0.0)
    gaps[begins] = 0.0
    positive = positives(columns, parameters)[order]
    pairs = user.astype(np.int64) * len(columns.item_ids) + item
    return Histories(
        event=order,
        item=item + np.int32(1),
        features=interaction_features(gaps, columns.kind[order], columns.rating[order]),
        first=first,
        is_positive=positive,
        is_target=positive if parameters.repeats else _first_of_each(pairs, positive),
        is_new=_first_of_each(pairs, np.ones_like(positive)),
    )


def positives(columns: EventColumns, parameters: Parameters) -> NDArray[np.bool_]:
    """Return of each event whether it is positive; its kind's rating stands in for none."""
    stand_ins = {"click": parameters.click_rating, "purchase": parameters.purchase_rating}
    of_kind = np.array([stand_ins.get(kind, -np.inf) for kind in KINDS])
    rating = np.where(np.isnan(columns.rating), of_kind[columns.kind], columns.rating)
    return np.asarray(rating >= parameters.positive_threshold)


def _first_of_each(pairs: NDArray[np.int64], among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where, among the rows marked, each value of `pairs` occurs first."""
    rows = np.flatnonzero(among)
    first = np.zeros(len(pairs), np.bool_)
    first[rows[np.unique(pairs[rows], return_index=True)[1]]] = True
    return first


@dataclass(frozen=True)
class Windows:
    """m windows of histories. Every position of every user stands in `fresh` of exactly one."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    """Exclusive; `end - start` is at most `session_length`."""
    fresh: NDArray[np.int64]
    """From here on to `end` positions are examples; those before are context alone."""

    def __len__(self) -> int:
        return len(self.start)


def windows(
    data: Histories, length: int, context: int, rng: np.random.Generator, since: int = 0
) -> Windows:
    """Cut the histories into windows, long ones at places drawn anew at each call.

    Up to `context` positions before its examples a window reaches back to, so that cutting a
    history does not make short sessions of long ones. Events before the `since`-th of the log are
    context alone.
    """
    position = np.arange(len(data))
    begins = np.flatnonzero(position == data.first)
    sizes = np.diff(begins, append=len(data))
    # The first window of a long history has no context, so it may hold that many more examples.
    first = np.where(sizes > length, rng.integers(context + 1, length + 1, len(sizes)), length)
    beyond = position - data.first - np.repeat(first, sizes)
    piece = np.where(beyond < 0, 0, 1 + beyond // (length - context))
    fresh = np.flatnonzero((position == data.first) | (np.diff(piece, prepend=-1) != 0))
    end = np.append(fresh[1:], len(data))
    start = np.maximum(data.first[fresh], fresh - context)
    if since:
        new = np.add.reduceat(data.event >= since, fresh) > 0
        start, end, fresh = start[new], end[new], fresh[new]
    return Windows(start=start, end=end, fresh=fresh)


@dataclass(frozen=True)
class Rows:
    """r rows of windows, each row as long as the longest window; what is left of it is padding."""

    position: NDArray[np.int32]
    """`[r, length]`, 0 for padding."""
    segment: NDArray[np.int32]
    """`[r, length]`: 1, 2, … for the windows of a row, 0 for padding."""
    fresh: NDArray[np.bool_]
    """`[r, length]`: whether the position is an example."""

    def __len__(self) -> int:
        return len(self.position)


def rows_of(cut: Windows, length: int, rng: np.random.Generator) -> Rows:
    """Pack windows into rows, in an order drawn at random."""
    order = rng.permutation(len(cut))
    start, end, fresh = cut.start[order], cut.end[order], cut.fresh[order]
    sizes = end - start
    packed = pack(sizes, length)
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    at = (
        np.repeat(rng.permutation(packed.rows)[packed.row] * length + packed.offset, sizes) + within
    )
    position = np.repeat(start, sizes) + within
    shape = (packed.rows, length)
    rows = Rows(np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.bool_))
    rows.position.ravel()[at] = position
    # Unlike its neighbours in the row is enough: an offset is, and no two windows share one.
    rows.segment.ravel()[at] = np.repeat(packed.offset + 1, sizes)
    rows.fresh.ravel()[at] = position >= np.repeat(fresh, sizes)
    return rows


@dataclass(frozen=True)
class Targets:
    """The positive events to predict, and where in them each position's future begins."""

    position: NDArray[np.int32]
    """`[t]`: of the events that are targets."""
    following: NDArray[np.int32]
    """`[n]`: of each position the number, in `position`, of the first target after it."""


def targets_of(data: Histories) -> Targets:
    """Return the histories' targets."""
    position = np.flatnonzero(data.is_target)
    following = np.searchsorted(position, np.arange(len(data)), side="right")
    return Targets(position.astype(np.int32), following.astype(np.int32))


def sessions_before(
    data: Histories, positions: NDArray[np.int64], length: int
) -> dict[str, NDArray[Any]]:
    """Return the query tower's input for the sessions that ended just before these positions.

    `items`: int32 `[m, length]`, left-padded with 0; `features`: float32 `[m, length, …]`;
    `length`: int32 `[m]`.
    """
    start = np.maximum(data.first[positions], positions - length)
    position = positions[:, None] + np.arange(-length, 0)
    valid = position >= start[:, None]
    position = np.where(valid, position, 0)
    return {
        "items": np.where(valid, data.item[position], 0).astype(np.int32),
        "features": np.where(valid[:, :, None], data.features[position], np.float32(0)),
        "length": (positions - start).astype(np.int32),
    }
