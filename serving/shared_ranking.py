"""Rankings that are made together: requests that wait at the same time are one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from models.retrieval.recommendations import ListRequest

_AT_ONCE = 16
"""Requests of a batch: what a batch costs by itself is shared by then, and others wait for it."""

_List = TypeVar("_List")
Rank = Callable[[Sequence[ListRequest]], "Sequence[_List]"]
"""Makes the lists of several requests in one go."""


@dataclass(frozen=True)
class _Waiting(Generic[_List]):
    rank: Rank[_List]
    asked: ListRequest
    answer: asyncio.Future[_List]


class SharedRanking:
    """Collects what is to be ranked until the event loop has gone through all who are ready.

    Their sessions were read in one round trip (`serving.shared_reads`), so they are ready together;
    one that comes alone waits for nobody.
    """

    def __init__(self) -> None:
        self._waiting: list[_Waiting[Any]] = []

    async def rank(self, rank: Rank[_List], asked: ListRequest) -> _List:
        """Return the request's list. Raises what `rank` raises.

        Requests with equal `rank` are made into lists in one go.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_List] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._rank_some)
        self._waiting.append(_Waiting(rank, asked, answer))
        return await answer

    def _rank_some(self) -> None:
        some, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
        if self._waiting:
            # Later, so that answers go out and requests come in between.
            asyncio.get_running_loop().call_soon(self._rank_some)
        by_rank: dict[Rank[Any], list[_Waiting[Any]]] = {}
        for each in some:
            if not each.answer.cancelled():
                by_rank.setdefault(each.rank, []).append(each)
        for rank, alike in by_rank.items():
            _rank(rank, alike)


def _rank(rank: Rank[Any], alike: Sequence[_Waiting[Any]]) -> None:
    try:
        lists = rank([each.asked for each in alike])
    except Exception as exc:  # noqa: BLE001 - whoever waits hears of it
        if len(alike) == 1:
            alike[0].answer.set_exception(exc)
        else:
            # Those that can be ranked are; it is one of them, mostly.
            for each in alike:
                _rank(rank, [each])
        return
    for each, found in zip(alike, lists, strict=True):
        each.answer.set_result(found)
