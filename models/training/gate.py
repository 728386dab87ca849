"""The gate: a new version is measured beside the one that serves, as both would be served.

The newest events of the log are held out: no version's towers are fitted to them, and a manifest
says from when on that holds. Both versions are loaded from their artefacts, as a server loads them,
and asked before each held-out event that is newer than what either was fitted to. Rules learn as
they do while serving: they know every event before the one that is asked for, in both versions
alike, those included which a training that goes on from a version has not read again. What was met
by a user before the events read is not known there: no version holds what its users did, who may be
erased. The first version of a model is measured beside the most popular items.

A version is rejected when it is worse (`models.training.verdicts`), and when nothing could be asked
of it while another one serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.events import EventColumns
from headrace.local.baselines import MISS
from headrace.settings import GateSettings
from headrace.transitions import Transition
from headrace.versions import POPULARITY, Verdict
from models.retrieval.artifact import Artifact
from models.retrieval.retriever import Retriever
from models.retrieval.rules import STEPS, Rules, count_rules
from models.training.dataset import Histories, before, histories
from models.training.incremental import Counted
from models.training.metrics import Ranks
from models.training.parameters import Parameters
from models.training.quality.queries import Queries
from models.training.quality.served import session_of
from models.training.verdicts import K, in_words, verdict_of
from models.training.version import fitted_to

_SEEN_LIMIT = 5_000
"""Newest items met by a user that are left out of the lists."""
_LEARNT = 100_000
"""Events before the held-out ones that rules learn one by one, as a server's do, at the most."""


@dataclass(frozen=True)
class Gate:
    """Judges new versions of a model beside the one that is live, None before the first."""

    settings: GateSettings
    live: Artifact | None
    serving: str | None
    """The live version's name; it may be live and damaged."""

    def held_back(self, columns: EventColumns, parameters: Parameters) -> int:
        """Return how many events, the newest ones, a new version must not be fitted to.

        They are the newer half of the hold-out; by the older one its training chooses.
        """
        held_out = len(columns) - int(len(columns) * parameters.train_split_ratio)
        return min(held_out // 2, self.settings.events)

    def judge(
        self,
        exported: Artifact,
        columns: EventColumns,
        items: Sequence[Item],
        parameters: Parameters,
        counted: Counted | None = None,
    ) -> Verdict:
        """Measure a version on the newest events of the log that it was trained on.

        `items`: the catalogue; `counted`: what was counted of the log before these events, whose
        first items are those of the version that was gone on from; None: these are all.
        """
        log = HeldOut.of(columns, self._since(exported), parameters, counted)
        new = _Served(exported, log, items).ranks()
        old = log.popular_ranks() if self.live is None else _Served(self.live, log, items).ranks()
        # Held-out events that are not new to the live version say nothing of it.
        behind = self.live is not None and columns.timestamp[-1] <= fitted_to(
            self.live.manifest.data
        )
        unmeasured = self.live is not None and not len(new)
        verdict = verdict_of(
            new,
            old,
            log.users,
            against=POPULARITY if self.live is None else self.live.manifest.version,
            live=self.serving,
            since=log.since,
            tolerance=self.settings.tolerance,
            refused=behind or unmeasured,
        )
        return _with_reason(verdict, behind=behind)

    def _since(self, exported: Artifact) -> float:
        """Return up to when, in Unix seconds, either version was fitted."""
        found = fitted_to(exported.manifest.data)
        return found if self.live is None else max(found, fitted_to(self.live.manifest.data))


@dataclass(frozen=True)
class HeldOut:
    """A log, and the events in it that versions are asked for."""

    columns: EventColumns
    data: Histories
    since: float
    """Unix seconds: the asked-for events are newer."""
    start: int
    """The first event of the log that is newer."""
    asked: NDArray[np.int64]
    """`[n]`: positions in `data` of the events to predict, in time."""
    queries: Queries
    """The sessions before them."""
    parameters: Parameters
    counted: Counted | None = None
    """What was counted of the log before these columns; None: they are all of it."""

    @classmethod
    def of(
        cls,
        columns: EventColumns,
        since: float,
        parameters: Parameters,
        counted: Counted | None = None,
    ) -> HeldOut:
        """Hold out the events after a moment.

        Asked for are positive events whose item is new to their user but not to the log, and whose
        user has a session; for others there is nothing that a version could say.
        """
        data = histories(columns, parameters)
        start = int(np.searchsorted(columns.timestamp, since, side="right"))
        known = np.zeros(len(columns.item_ids) + 1, np.bool_)
        known[columns.item[:start] + 1] = True
        if counted is not None:
            known[1 : 1 + len(counted.base.artifact.item_ids)] = True
        wanted = data.is_target & data.is_new & known[data.item] & (data.event >= start)
        asked = np.flatnonzero(wanted & (data.first < np.arange(len(data))))
        asked = asked[np.argsort(data.event[asked])]
        queries = Queries(
            user=columns.user[data.event],
            item=columns.item[data.event],
            timestamp=columns.timestamp[data.event],
            kind=columns.kind[data.event],
            rating=columns.rating[data.event],
            start=data.first[asked],
            end=asked,
            target=columns.item[data.event[asked]],
        )
        return cls(columns, data, since, start, asked, queries, parameters, counted)

    @property
    def users(self) -> NDArray[np.int32]:
        """`[n]`: whose the events are."""
        return self.queries.user[self.asked]

    def met(self, row: int) -> list[int]:
        """Return the codes of the items that the user had met before the event, newest last."""
        first = max(int(self.queries.start[row]), int(self.queries.end[row]) - _SEEN_LIMIT)
        return list(self.queries.item[first : self.queries.end[row]].tolist())

    def popular_ranks(self) -> Ranks:
        """Return `[n]`: the ranks that the most popular items before the held-out events give."""
        counts = np.bincount(self.columns.item[: self.start], minlength=len(self.columns.item_ids))
        order = np.argsort(-counts, kind="stable").tolist()

        def listed(row: int) -> Sequence[int]:
            met, found = set(self.met(row)), list[int]()
            for code in order:
                if len(found) == K:
                    break
                if code not in met:
                    found.append(code)
            return found

        return self._ranks(listed, self.queries.target.tolist())

    def ranks(self, listed: Callable[[int], Sequence[str]]) -> Ranks:
        """Return `[n]`: the rank of each event's item in the list for its row, `MISS` for none."""
        item_ids = self.columns.item_ids
        return self._ranks(listed, [item_ids[code] for code in self.queries.target.tolist()])

    def _ranks(self, listed: Callable[[int], Sequence[object]], targets: Sequence[object]) -> Ranks:
        found = np.full(len(targets), MISS, np.int64)
        for row, target in enumerate(targets):
            items = listed(row)
            if target in items:
                found[row] = 1 + items.index(target)
        return found


class _Served:
    """A version as a server had it, had it served when the held-out events came."""

    def __init__(self, artifact: Artifact, log: HeldOut, items: Sequence[Item]) -> None:
        # What the version's own log had, it counted; of the rest a server's rules learn.
        own = np.searchsorted(
            log.columns.timestamp, artifact.manifest.data.to_timestamp, side="right"
        )
        self._learnt = max(min(int(own), log.start), log.start - _LEARNT)
        rules = rules_before(artifact, log, self._learnt)
        self._retriever = Retriever(replace(artifact, rules=rules))
        self._retriever.add_items(items)
        self._says_what_is_similar = artifact.manifest.kind == "items"
        self._log = log
        self._position_of = np.empty(len(log.data), np.int64)
        self._position_of[log.data.event] = np.arange(len(log.data))

    def ranks(self) -> Ranks:
        """Ask for all of the held-out events, in time."""
        return self._log.ranks(self._list)

    def _list(self, row: int) -> Sequence[str]:
        log = self._log
        self._learn_until(int(log.data.event[log.asked[row]]))
        item_ids = log.columns.item_ids
        met = [item_ids[code] for code in log.met(row)]
        if self._says_what_is_similar:
            # To the newest item alone, whatever came before it.
            met = met[-1:]
            found = self._retriever.similar(met[0], K)
        else:
            session = session_of(log.queries, row, item_ids)
            found = self._retriever.recommend(session, K, exclude=met)
        return found.item_ids if found else self._retriever.popular_items(K, exclude=met)

    def _learn_until(self, event: int) -> None:
        """Let the rules learn of the events before this one."""
        if self._retriever.has_rules and self._learnt < event:
            transitions = [self._transition(at) for at in range(self._learnt, event)]
            self._retriever.learn(transitions)
            self._learnt = event

    def _transition(self, event: int) -> Transition:
        log, position = self._log, int(self._position_of[event])
        first = max(int(log.data.first[position]), position - STEPS)
        before = log.queries.item[first:position][::-1].tolist()
        item_ids = log.columns.item_ids
        item = item_ids[int(log.columns.item[event])]
        return Transition("", "", 0, event, item, tuple(item_ids[code] for code in before))


def rules_before(artifact: Artifact, log: HeldOut, end: int) -> Rules:
    """Return what the events before this one come to, between the version's own items."""
    own = {item_id: position for position, item_id in enumerate(artifact.item_ids)}
    position_of = np.array([own.get(item_id, -1) for item_id in log.columns.item_ids], np.int64)
    if log.counted is not None:
        data = histories(before(log.columns, end), log.parameters)
        rules = log.counted.rules(data, len(position_of) + 1)
        return rules.among(position_of, len(artifact.item_ids))
    item = position_of[log.queries.item]
    kept = np.flatnonzero((log.data.event < end) & (item >= 0))
    user = log.queries.user[kept]
    begins = np.flatnonzero(np.diff(user, prepend=-1))
    first = np.repeat(begins, np.diff(begins, append=len(user)))
    return count_rules(item[kept], first, len(artifact.item_ids))


def _with_reason(verdict: Verdict, *, behind: bool) -> Verdict:
    return msgspec.structs.replace(verdict, reason=_reason(verdict, behind))


def _reason(verdict: Verdict, behind: bool) -> str:
    if behind:
        return (
            f"Its events end before those that version {verdict.against} was fitted to, so there "
            "is nothing to measure both on."
        )
    if not verdict.events:
        return "No held-out event is new to its user, so there is nothing to measure it on."
    return in_words(verdict, beside=verdict.against, events="events")
