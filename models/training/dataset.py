"""The log of events as training reads it: users' histories, windows of them, and batches.

A history is a user's events in time order; a window is a piece of one, at most `session_length`
long, which the query tower sees as it sees a session when serving. Each position of a window is an
example: what stands up to there is the session, and the user's next positive events are the
targets, as in SASRec (Kang & McAuley, 2018).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.events import KINDS, EventColumns
from models.retrieval.features import interaction_features
from models.training.parameters import Parameters

Batch = Mapping[str, NDArray[Any]]


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
    """Whether to predict it: its user's first positive event with this item."""
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
        is_target=_first_of_each(pairs, positive),
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


def windows(data: Histories, length: int, rng: np.random.Generator) -> Windows:
    """Cut the histories into windows, long ones at places drawn anew at each call.

    A window reaches back before its examples as far as `length` allows, so that cutting a history
    does not make short sessions of long ones.
    """
    position = np.arange(len(data))
    begins = np.flatnonzero(position == data.first)
    sizes = np.diff(begins, append=len(data))
    shift = np.where(sizes > length, rng.integers(0, length, len(sizes)), 0)
    piece = (position - data.first + np.repeat(shift, sizes)) // length
    fresh = np.flatnonzero((position == data.first) | (np.diff(piece, prepend=-1) != 0))
    end = np.append(fresh[1:], len(data))
    return Windows(start=np.maximum(data.first[fresh], end - length), end=end, fresh=fresh)


def sessions_before(
    data: Histories, positions: NDArray[np.int64], length: int
) -> dict[str, NDArray[Any]]:
    """Return the query tower's input for the sessions that ended just before these positions.

    `items`: int32 `[m, length]`, left-padded with 0; `features`: float32 `[m, length, …]`;
    `length`: int32 `[m]`, 0 for a user's first event.
    """
    start = np.maximum(data.first[positions], positions - length)
    return _padded(data, start, positions, length)


def training_batches(
    data: Histories, parameters: Parameters, rng: np.random.Generator
) -> Iterator[Batch]:
    """Yield one epoch of batches, in an order drawn from `rng`; the last, smaller one is left out.

    Beside what `sessions_before` gives: `targets`: int32 `[b, length, future]`, the items of the
    next positive events; `weights`: float32 of the same shape, 0 where there is none.
    """
    cut = windows(data, parameters.session_length, rng)
    targets = np.flatnonzero(data.is_target)
    size = min(parameters.batch_size, len(cut))
    shuffled = rng.permutation(len(cut))
    for at in range(0, len(cut) - size + 1, size):
        rows = shuffled[at : at + size]
        start, end, fresh = cut.start[rows], cut.end[rows], cut.fresh[rows]
        yield {
            **_padded(data, start, end, parameters.session_length),
            **_next_targets(data, targets, fresh, end, parameters),
        }


def batches_in_epoch(data: Histories, parameters: Parameters) -> int:
    """Return a lower bound of the batches that an epoch yields, at least 1."""
    cut = windows(data, parameters.session_length, np.random.default_rng(parameters.seed))
    return max(1, len(cut) // parameters.batch_size)


def _padded(
    data: Histories, start: NDArray[np.int64], end: NDArray[np.int64], length: int
) -> dict[str, NDArray[Any]]:
    position = end[:, None] + np.arange(-length, 0)
    valid = position >= start[:, None]
    position = np.where(valid, position, 0)
    return {
        "items": np.where(valid, data.item[position], 0).astype(np.int32),
        "features": np.where(valid[:, :, None], data.features[position], np.float32(0)),
        "length": (end - start).astype(np.int32),
    }


def _next_targets(
    data: Histories,
    targets: NDArray[np.int64],
    fresh: NDArray[np.int64],
    end: NDArray[np.int64],
    parameters: Parameters,
) -> dict[str, NDArray[Any]]:
    future = np.arange(parameters.future)
    position = end[:, None] + np.arange(-parameters.session_length, 0)
    nth = np.searchsorted(targets, np.maximum(position, 0) + 1)[:, :, None] + future
    there = nth < len(targets)
    at = targets[np.minimum(nth, len(targets) - 1)]
    same_user = data.first[at] == data.first[end - 1][:, None, None]
    example = (position >= fresh[:, None])[:, :, None]
    wanted = there & same_user & example
    weights = np.where(wanted, parameters.future_decay**future, 0.0)
    total = weights.sum(-1, keepdims=True)
    return {
        "targets": np.where(wanted, data.item[at], 0).astype(np.int32),
        "weights": np.divide(weights, total, out=weights, where=total > 0).astype(np.float32),
    }
