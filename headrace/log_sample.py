"""The log as an incremental training reads it: what is new, and a sample of what was there before.

What is read grows with what is new and not with the log. Half of the sample is what came just
before the new events, so that a session that goes on is whole; the other half are pieces spread
evenly over all that is older, so that nothing is forgotten. A piece is contiguous, for a session
is. It is read as Kafka and the archive hold it, and whoever was erased since is left out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headrace.erasure_log import read_erasures
from headrace.events import EventColumns
from headrace.log import Offsets
from headrace.replay import ReplayPlan, plan_replay, run_replay
from headrace.settings import Settings
from headrace.topics import Topics

if TYPE_CHECKING:
    from headrace.columns import Places

PIECES = 8
"""Of what is older than the newest part."""
NEWEST_SHARE = 0.5
"""Of the sample: what came just before the new events."""


@dataclass(frozen=True)
class NewEvents:
    """What is new in a log, and a sample of what was there before."""

    columns: EventColumns
    """A user has a code of its own in each older piece: between two pieces events are missing."""
    is_new: NDArray[np.bool_]
    """`[n]`: whether the event is not of the sample."""


def sample_size(new: int, share: float, least: int) -> int:
    """Return how many old records to read beside so many new ones."""
    return max(least, round(share * new))


def sampled(end: int, wanted: int, places: Sequence[float]) -> list[range]:
    """Return which of the first `end` records to read, about `wanted` of them.

    The first range ends at `end`. One for each of `places` follows: where in its part of what is
    older the range lies, from 0 to 1.
    """
    if wanted >= end:
        return [range(end)]
    older = int(wanted * (1 - NEWEST_SHARE))
    begin = end - (wanted - older)
    size, part = older // len(places), begin / len(places)
    starts = [int(n * part + place * max(0.0, part - size)) for n, place in enumerate(places)]
    return [range(begin, end), *(range(at, min(at + size, begin)) for at in starts if size)]


def pieces_apart(columns: EventColumns, piece: NDArray[np.int64]) -> EventColumns:
    """Give a user a code of its own in each piece; `piece`: `[n]`, from 0 up."""
    users = len(columns.user_ids)
    codes, user = np.unique(piece * users + columns.user, return_inverse=True)
    user_ids = tuple(columns.user_ids[code % users] for code in codes.tolist())
    return replace(columns, user=user.astype(np.int32), user_ids=user_ids)


def new_of(columns: EventColumns, since: int, wanted: int, rng: np.random.Generator) -> NewEvents:
    """Return the same of a log that is in memory, whose first `since` events are old."""
    piece = np.full(len(columns), -1)
    piece[since:] = 0
    for number, span in enumerate(sampled(since, wanted, rng.random(PIECES).tolist())):
        piece[span.start : span.stop] = number
    read = np.flatnonzero(piece >= 0)
    there = replace(
        columns,
        user=columns.user[read],
        item=columns.item[read],
        timestamp=columns.timestamp[read],
        kind=columns.kind[read],
        rating=columns.rating[read],
    )
    return NewEvents(pieces_apart(there, piece[read]), read >= since)


def read_new(
    settings: Settings,
    since: Offsets,
    through: Offsets,
    topic_ids: dict[str, str],
    *,
    share: float,
    least: int,
    rng: np.random.Generator,
    progress: Callable[[float], None] = lambda _: None,
) -> NewEvents:
    """Return the events from `since` on up to `through`, and a sample of those before. Blocks.

    `share` times as many old records as there are new ones, but `least` if there are so many.
    Of an event that was sent again the first copy read counts. Raises what `read_columns` raises.
    """
    # Deferred: what asks for the log's ends alone, and runs for long, should not hold Arrow.
    from headrace.columns import ColumnBuilder

    spans = _spans(since, through, share, least, rng.random(PIECES).tolist())
    plans = [_plan(settings, piece, topic_ids) for piece in spans]
    offsets = sum(plan.offsets for plan in plans)
    kinds = Topics(settings).all_kinds
    builder = ColumnBuilder(np.random.default_rng(), read_erasures(settings), kinds)
    count = 0
    progress(0.0)
    for plan in plans:
        with closing(run_replay(settings, plan)) as batches:
            for batch in batches:
                builder.add(batch)
                count += len(batch.records)
                progress(min(1.0, count / max(offsets, 1)))
    columns, places = builder.build_placed(through)
    return NewEvents(pieces_apart(columns, _pieces(places, spans)), _are_new(places, since))


_Spans = dict[tuple[str, str], range]
"""By topic and partition, the offsets of a piece."""


def _spans(
    since: Offsets, through: Offsets, share: float, least: int, places: Sequence[float]
) -> list[_Spans]:
    """Return the offsets to read, piece by piece; the new ones are in the first."""
    ends = {
        (topic, partition): (since.get(topic, {}).get(partition, 0), end)
        for topic, by_partition in through.items()
        for partition, end in by_partition.items()
    }
    old = sum(begin for begin, _ in ends.values())
    wanted = sample_size(sum(end - begin for begin, end in ends.values()), share, least)
    pieces: list[_Spans] = [{} for _ in range(1 + PIECES)]
    for key, (begin, end) in ends.items():
        # The same places in all: topics that grow alike are read at the same times.
        of_partition = -(-wanted * begin // max(old, 1))
        newest, *older = sampled(begin, of_partition, places)
        pieces[0][key] = range(newest.start, end)
        for piece, span in zip(pieces[1:], older, strict=False):
            piece[key] = span
    return [piece for piece in pieces if piece]


def _are_new(places: Places, since: Offsets) -> NDArray[np.bool_]:
    # A partition that there was not is new from its beginning.
    begin = np.zeros(len(places.offset), np.int64)
    for topic, by_partition in since.items():
        for partition, offset in by_partition.items():
            begin[_of(places, topic, partition)] = offset
    return np.asarray(places.offset >= begin)


def _pieces(places: Places, spans: Sequence[_Spans]) -> NDArray[np.int64]:
    piece = np.zeros(len(places.offset), np.int64)
    for number, of_piece in enumerate(spans):
        for (topic, partition), span in of_piece.items():
            inside = (places.offset >= span.start) & (places.offset < span.stop)
            piece[_of(places, topic, partition) & inside] = number
    return piece


def _of(places: Places, topic: str, partition: str) -> NDArray[np.bool_]:
    codes = [code for code, (name, _) in enumerate(places.sources) if name == topic]
    return np.asarray(np.isin(places.source, codes) & (places.partition == int(partition)))


def _plan(settings: Settings, spans: _Spans, topic_ids: dict[str, str]) -> ReplayPlan:
    start: Offsets = {}
    through: Offsets = {}
    for (topic, partition), span in spans.items():
        start.setdefault(topic, {})[partition] = span.start
        through.setdefault(topic, {})[partition] = span.stop
    return plan_replay(settings, through, start=start, topics=tuple(through), topic_ids=topic_ids)
