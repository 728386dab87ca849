"""What users did with the lists they were served: what they acted on, and what they passed over.

A list is joined with the events of its user within a window after it was served. A positive event
is an act on the last list before it that showed its item. Where a list was acted on, the items that
were looked at and not acted on were passed over. What was looked at is not logged, and people look
from the top (position bias): taken to be looked at is what stands above the lowest act, and the one
item below it, as eye tracking shows ("Skip Above" and "No-Click Next" of Joachims et al., 2005,
"Accurately interpreting clickthrough data as implicit feedback"; the dependent click model of Guo,
Liu & Wang, 2009). So an item further down, and a list on which nobody acted, say nothing. An item
that its user came to in the window some other way was not passed over.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.events import EventColumns
from headrace.served_lists import ServedLists
from models.training.dataset import positives
from models.training.parameters import Parameters

ACTED, PASSED = 3, 20
"""Items of a choice at the most: the first ones acted on, and the lowest ones passed over."""
_FOLLOWING = 50
"""Of a user's events after a list, the first ones that are looked at."""

_Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Choices:
    """c sessions whose users chose from what they were served; lists of one session are one choice.

    An item's number is 1 + its code; 0 stands for none.
    """

    event: _Rows
    """`[c]`: the number, in the log, of the session's last event; they ascend."""
    acted: NDArray[np.int32]
    """`[c, ACTED]`: at least one."""
    passed: NDArray[np.int32]
    """`[c, PASSED]`: at least one."""

    def __len__(self) -> int:
        return len(self.event)

    def of_rows(self, rows: _Rows) -> Choices:
        """Return those of a log that consists of these rows of the log, which ascend."""
        at = np.minimum(np.searchsorted(rows, self.event), max(0, len(rows) - 1))
        there = rows[at] == self.event if len(rows) else np.zeros(len(self), np.bool_)
        return Choices(at[there], self.acted[there], self.passed[there])

    def fingerprint(self) -> str:
        """Return the sha256 of the choices."""
        digest = hashlib.sha256()
        for column in (self.event, self.acted, self.passed):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


NO_CHOICES = Choices(
    np.empty(0, np.int64), np.empty((0, ACTED), np.int32), np.empty((0, PASSED), np.int32)
)


def choices_of(lists: ServedLists, columns: EventColumns, parameters: Parameters) -> Choices:
    """Return the choices that the events of a log tell of.

    Where the log has a user in pieces, a list and what was done with it are of the same piece.
    """
    shown = _Shown.of(lists, columns)

    # 1. Which events are acts on something listed.
    acts = _Acts.of(shown, columns, parameters)
    act, act_event, met = acts.slot, acts.event, acts.met

    # 2. What was looked at and left.
    lowest = np.full(len(shown.start) - 1, -1)
    np.maximum.at(lowest, shown.listed[act], shown.rank[act])
    left = shown.rank <= lowest[shown.listed] + 1
    left &= (lowest[shown.listed] >= 0) & (shown.rank > lowest[shown.listed] + 1 - PASSED)
    left[met] = False
    left &= shown.item >= 0

    # 3. The lists of one session together.
    acted = _by_session(shown.session[shown.listed[act]], shown.item[act], act_event, ACTED)
    order = np.flatnonzero(left)[::-1]
    passed = _by_session(
        shown.session[shown.listed[order]], shown.item[order], np.arange(len(order)), PASSED
    )
    return _joined(acted, passed, len(columns.item_ids))


def acted_on(
    lists: ServedLists, columns: EventColumns, parameters: Parameters
) -> NDArray[np.bool_]:
    """Return `[n]`: of each list whether the events of a log tell of an act on it."""
    shown = _Shown.of(lists, columns)
    found = np.zeros(len(lists), np.bool_)
    found[shown.number[shown.listed[_Acts.of(shown, columns, parameters).slot]]] = True
    return found


@dataclass(frozen=True)
class _Shown:
    """The lists of users who had a session, slot by slot."""

    start: _Rows
    """`[lists + 1]`: where a list's slots begin."""
    listed: _Rows
    """`[slots]`: of which list they are; a later list has a greater number."""
    rank: _Rows
    """`[slots]`: from 0 for the best."""
    item: _Rows
    """`[slots]`: the code in the log, -1 for what the log does not know."""
    session: _Rows
    """`[lists]`: the number of the session's last event."""
    served_at: NDArray[np.float64]
    """`[lists]`: Unix seconds."""
    position: _Rows
    """`[lists]`: where, among the events by user and time, the user's next one stands."""
    by_user: _Rows
    """`[events]`: the events by user and time."""
    end: _Rows
    """`[lists]`: where the events of the list's user, or of the piece of it, end in `by_user`."""
    number: _Rows
    """`[lists]`: which of all lists it is."""
    _keys: _Rows
    _slots: _Rows
    _items: int

    @classmethod
    def of(cls, lists: ServedLists, columns: EventColumns) -> _Shown:
        """Find the session that each list was made from; lists made from none are left out."""
        names = pa.array(columns.user_ids, pa.large_string()).dictionary_encode()
        name = names.indices.to_numpy()[columns.user].astype(np.int64)
        user = _codes(lists.user_ids, names.dictionary)[lists.user]
        n = len(columns)
        by_user = np.argsort(name, kind="stable")
        keys = name[by_user] * (n + 1) + by_user
        known_then = np.searchsorted(columns.timestamp, lists.served_at, side="right")
        position = np.searchsorted(keys, user * (n + 1) + known_then)
        before = by_user[np.maximum(position - 1, 0)] if n else np.zeros(len(lists), np.int64)
        has_session = (user >= 0) & (position > 0)
        if n:
            has_session &= name[before] == user
        kept = np.flatnonzero(has_session)
        piece = columns.user[by_user]
        ends = np.append(np.flatnonzero(np.diff(piece)) + 1, n)
        position = position[kept]
        lengths = np.diff(lists.start)[kept]
        start = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        listed = np.repeat(np.arange(len(kept)), lengths)
        rank = np.arange(start[-1]) - start[:-1][listed]
        code = _codes(lists.item_ids, pa.array(columns.item_ids, pa.large_string()))
        item = code[lists.item[lists.start[kept][listed] + rank]]
        items = len(columns.item_ids) + 1
        pairs = listed * items + item + 1
        slots = np.argsort(pairs, kind="stable")
        return cls(
            start=start,
            listed=listed,
            rank=rank,
            item=item,
            session=before[kept],
            served_at=lists.served_at[kept],
            position=position,
            by_user=by_user,
            end=ends[np.searchsorted(ends, position - 1, side="right")] if n else position,
            number=kept,
            _keys=pairs[slots],
            _slots=slots,
            _items=items,
        )

    def place(self, listed: _Rows, item: NDArray[np.int32]) -> _Rows:
        """Return where in the lists these items stand, for `slot`; -1 where they do not."""
        wanted = listed * self._items + item + 1
        at = np.searchsorted(self._keys, wanted)
        found = at < len(self._keys)
        found[found] = self._keys[at[found]] == wanted[found]
        return np.where(found, at, -1)

    def slot(self, place: _Rows) -> _Rows:
        """Return the slots at these places."""
        return self._slots[place]


@dataclass(frozen=True)
class _Following:
    """Pairs of a list and an event of its user's within the window after it."""

    listed: _Rows
    event: _Rows

    @classmethod
    def of(cls, shown: _Shown, columns: EventColumns, parameters: Parameters) -> _Following:
        until = shown.served_at + parameters.feedback_window_s
        known_then = np.searchsorted(columns.timestamp, until, side="right")
        longest = np.minimum(shown.end - shown.position, _FOLLOWING)
        listed = np.repeat(np.arange(len(longest)), longest)
        starts = np.cumsum(longest) - longest
        at = shown.position[listed] + np.arange(len(listed)) - starts[listed]
        event = shown.by_user[at]
        within = event < known_then[listed]
        return cls(listed[within], event[within])


@dataclass(frozen=True)
class _Acts:
    """Positive events on something that was listed, each on the last list that showed it."""

    slot: _Rows
    """`[acts]`: what of a list was acted on."""
    event: _Rows
    """`[acts]`: by which event."""
    met: _Rows
    """The slots of all lists whose items their users came to, acted on there or elsewhere."""

    @classmethod
    def of(cls, shown: _Shown, columns: EventColumns, parameters: Parameters) -> _Acts:
        following = _Following.of(shown, columns, parameters)
        positive = positives(columns, parameters)[following.event]
        listed, event = following.listed[positive], following.event[positive]
        place = shown.place(listed, columns.item[event])
        on_list = place >= 0
        met = shown.slot(place[on_list])
        last = _last_of_each(event[on_list])
        return cls(met[last], event[on_list][last], met)


def _codes(ids: tuple[str, ...], among: pa.Array) -> _Rows:
    """Return of each id its place among others, -1 for one that is not."""
    found = pc.index_in(pa.array(ids, pa.large_string()), among)
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)


def _last_of_each(event: _Rows) -> _Rows:
    """Return, of rows sorted by list, the last one of each event."""
    return len(event) - 1 - np.unique(event[::-1], return_index=True)[1]


@dataclass(frozen=True)
class _BySession:
    """Items by session, in order."""

    session: _Rows
    item: _Rows
    nth: _Rows
    """How many of the session come before."""


def _by_session(session: _Rows, item: _Rows, rank: _Rows, at_most: int) -> _BySession:
    """Return the items of each session by rank, each once, at most so many."""
    order = np.lexsort((rank, session))
    session, item = session[order], item[order]
    pairs = np.stack([session, item], axis=1)
    first = np.sort(np.unique(pairs, axis=0, return_index=True)[1]) if len(pairs) else order
    session, item = session[first], item[first]
    begins = np.flatnonzero(np.diff(session, prepend=-1))
    nth = np.arange(len(session)) - np.repeat(begins, np.diff(begins, append=len(session)))
    kept = nth < at_most
    return _BySession(session[kept], item[kept], nth[kept])


def _joined(acted: _BySession, passed: _BySession, items: int) -> Choices:
    """Return the choices of the sessions in which something was acted on and something left."""
    taken = acted.session * items + acted.item
    left = ~np.isin(passed.session * items + passed.item, taken)
    passed = _by_session(passed.session[left], passed.item[left], passed.nth[left], PASSED)
    session = np.intersect1d(acted.session, passed.session)
    return Choices(session, _filled(acted, session, ACTED), _filled(passed, session, PASSED))


def _filled(rows: _BySession, session: _Rows, width: int) -> NDArray[np.int32]:
    filled = np.zeros((len(session), width), np.int32)
    kept = np.isin(rows.session, session)
    at = np.searchsorted(session, rows.session[kept])
    filled[at, rows.nth[kept]] = rows.item[kept] + 1
    return filled
