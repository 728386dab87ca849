"""The way of a request: session, limits, ranking, page, and what there is when one is missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from itertools import compress

import msgspec
import numpy as np
from msgspec import Struct
from redis.exceptions import RedisError

from headrace.sessions import Session, SessionStore
from headrace.settings import Settings
from models.retrieval.candidates import Candidates
from models.retrieval.filters import parse_filter
from models.retrieval.limits import Limits
from models.retrieval.ranker import CANDIDATES, Ranker
from models.retrieval.recommendations import ListRequest, Recommendations
from models.retrieval.retriever import Retriever
from serving.cursor import read_cursor, write_cursor
from serving.live_model import LiveModel
from serving.live_ranking import LiveRanking
from serving.messages import (
    DIVERSITY_FAILS,
    MODEL_FAILS,
    NO_CANDIDATES,
    NO_CATALOGUE,
    NO_ITEMS,
    NO_SESSION,
    RANKING_FAILS,
    REASONS_FAIL,
    STAND_IN,
    shortage,
    without_model,
)
from serving.outage import Outage
from serving.schemas.recommendations import (
    ModelInfo,
    Reason,
    Recommendation,
    RecommendationAnswer,
    RecommendationRequest,
    SessionInfo,
)
from serving.shared_ranking import SharedRanking
from serving.trending import TrendingCache

logger = logging.getLogger(__name__)

_POOL = (100, 1_000)
"""From how many of the best items a diverse list is chosen: 4 k, within these bounds."""
_REASONS = 5
"""Interactions named for an item."""


class Prepared(Struct, frozen=True):
    """A request, and what was read to answer it."""

    request: RecommendationRequest
    session: Session
    met: Sequence[str]
    """The session's items, if they may not be recommended."""
    shown: Sequence[str]
    """By the pages before."""
    limits: Limits
    """With what the user has met beyond the session, and what is hidden."""
    trouble: str | None
    """In words, why the session is not the user's."""

    @property
    def pool(self) -> int:
        """How many items to rank: one more than k tells whether there is another page."""
        least, most = _POOL
        k = self.request.k
        return max(least, min(4 * k, most)) if self.request.diversity else k + 1


class Made(Struct, frozen=True):
    """An answer, and the session that it was made from."""

    answer: RecommendationAnswer
    session: Session


class RankedList(Struct, frozen=True):
    """Items in their order, and how they came about."""

    found: Recommendations
    message: str | None = None
    by: Retriever | None = None
    """The version that made it; None for a list of trending or unscored items."""
    ranker: str | None = None
    """The version of the second stage that put it in order."""


class Recommender:
    """Answers requests for recommendations. There is an answer whatever part is missing."""

    def __init__(
        self,
        settings: Settings,
        sessions: SessionStore,
        live: LiveModel,
        ranking: LiveRanking,
        trending: TrendingCache,
        new_id: Callable[[], str],
    ) -> None:
        self._limit = settings.sessions.limit
        self._model_id = settings.model_id
        self._sessions = sessions
        self._live = live
        self._ranking = ranking
        self._trending = trending
        self._new_id = new_id
        self._shared = SharedRanking()
        self._away = Outage(logger, "sessions cannot be read")
        self._unordered = Outage(logger, "the second stage fails to reorder")
        self._alike = Outage(logger, "a version fails to tell which items are alike")
        self._reasoning = Outage(logger, "a version fails to tell what moved its items")

    async def answer(self, request: RecommendationRequest) -> Made:
        """Return what to recommend, and from which session and version it comes.

        Raises `InvalidFilter`, `InvalidCursor`.
        """
        asked = await self._read(request)
        # One version answers the whole request, whatever is swapped in meanwhile; it is chosen now
        # that the catalogue's news is known.
        retriever = self._live.retriever_for(request.user_id)
        ranked = await self._listed(asked, retriever)
        page, unlike = self._page(asked, ranked.found, ranked.by or retriever)
        rows, unexplained = await self._explained(asked, page, ranked.by)
        more = len(ranked.found.item_ids) > len(page.item_ids)
        answer = RecommendationAnswer(
            id=self._new_id(),
            recommendations=rows,
            message=" ".join(filter(None, (ranked.message, unlike, unexplained))) or None,
            model=ModelInfo(self._model_id, ranked.by.manifest.version)
            if ranked.by is not None
            else None,
            session=SessionInfo(
                interactions=len(asked.session.item_ids),
                applied=asked.session.applied,
                updated_at=asked.session.updated_at,
                marks=asked.session.marks,
            ),
            cursor=write_cursor([*asked.shown, *page.item_ids]) if more else None,
            ranking=ranked.ranker,
        )
        return Made(answer, asked.session)

    async def _read(self, request: RecommendationRequest) -> Prepared:
        """Check the request, and read what it takes to answer it: one round trip or two."""
        asked_filter = None if request.filter is None else parse_filter(request.filter)
        shown = [] if request.cursor is None else read_cursor(request.cursor)
        session, trouble = await self._session(request)
        met: Sequence[str] = () if request.recommend_seen else session.item_ids
        met_before = await self._met_before(request, session)
        return Prepared(
            request,
            session,
            met,
            shown,
            Limits([*request.exclude_ids, *session.hidden, *shown, *met_before], asked_filter),
            trouble,
        )

    async def _session(self, request: RecommendationRequest) -> tuple[Session, str | None]:
        """Return the session, having heard with it what the catalogue has deleted."""
        if request.user_id is None:
            await self._live.hear()
            return Session.from_interactions(request.user_interactions or {}, self._limit), None
        try:
            [session] = await self._live.read(self._sessions.reading(request.user_id))
        except (RedisError, OSError) as exc:
            self._away.met(exc)
            return Session(), NO_SESSION
        self._away.over()
        return session, None

    async def _met_before(
        self, request: RecommendationRequest, session: Session
    ) -> Collection[str]:
        """Return what the user has met, if the full session dictionary may have dropped some."""
        full = len(session.item_ids) >= self._limit
        if request.recommend_seen or not full:
            return ()
        if request.user_id is None:
            return (request.user_interactions or {}).keys() - session.item_ids
        try:
            return await self._sessions.all_seen(request.user_id)
        except (RedisError, OSError) as exc:
            logger.warning("seen items cannot be read: %r", exc)
            return ()

    async def _listed(self, asked: Prepared, retriever: Retriever | None) -> RankedList:
        """Return the list of this version or, where it fails, the best there is without it."""
        for version in (retriever, *self._live.stand_ins(retriever)):
            try:
                ranked = await self._ranked(asked, version)
            except Exception:
                # Whatever a version runs into, there is an answer.
                logger.exception("version %s fails to answer", version and version.manifest.version)
                self._live.failures += 1
                continue
            if ranked is None:
                return await self._trending_list(asked)
            if version is not retriever:
                return msgspec.structs.replace(ranked, message=ranked.message or STAND_IN)
            return ranked
        asked = msgspec.structs.replace(asked, trouble=asked.trouble or MODEL_FAILS)
        if asked.request.candidate_ids is None:
            return await self._trending_list(asked)
        return _unranked(asked, self._candidates(asked, retriever), retriever)

    async def _ranked(self, asked: Prepared, retriever: Retriever | None) -> RankedList | None:
        """Return the best items by the model; None when it cannot say and trending ones must do.

        Raises what a version runs into that is not what it should be.
        """
        if asked.request.candidate_ids is not None:
            return self._ranked_candidates(asked, retriever)
        if retriever is None:
            return None
        best = await self._best(asked, retriever)
        if best is None:
            return None
        too_few = shortage(asked.request, asked.shown, len(best.found.item_ids))
        return msgspec.structs.replace(best, message=best.message or too_few)

    async def _best(self, asked: Prepared, retriever: Retriever) -> RankedList | None:
        """Return the best items, by the second stage where there is one, or why not by it."""
        ranker = self._ranking.ranker
        if ranker is None or (asked.request.recommend_seen and not ranker.knows_met_items):
            wanted = ListRequest(asked.session, asked.pool, asked.met, asked.limits)
            best = await self._shared.rank(retriever.recommend_many, wanted)
            return None if best is None else RankedList(best, by=retriever)
        pool = max(asked.pool, CANDIDATES)
        wanted = ListRequest(asked.session, pool, asked.met, asked.limits)
        found = await self._shared.rank(retriever.candidates_many, wanted)
        if found is None:
            return None
        reordered = self._reordered(ranker, found)
        best = reordered or found.items
        return RankedList(
            best.at(range(min(asked.pool, len(best.item_ids)))),
            RANKING_FAILS if reordered is None else None,
            retriever,
            None if reordered is None else ranker.manifest.version,
        )

    def _reordered(self, ranker: Ranker, found: Candidates) -> Recommendations | None:
        """Return the candidates by the second stage; None where it fails."""
        try:
            best = ranker.reordered(found)
        except Exception as exc:  # noqa: BLE001 - whatever it runs into, retrieval has an order
            self._unordered.met(exc)
            self._live.failures += 1
            return None
        self._unordered.over()
        return best

    def _ranked_candidates(self, asked: Prepared, retriever: Retriever | None) -> RankedList:
        """Rank the request's own candidates; equal scores keep the order of the request."""
        candidate_ids = self._candidates(asked, retriever)
        scored = (
            retriever.score(asked.session, candidate_ids, exclude=asked.met)
            if candidate_ids and retriever is not None
            else None
        )
        if scored is None:
            return _unranked(asked, candidate_ids, retriever)
        order = np.argsort(-np.array(scored.scores), kind="stable")[: asked.pool]
        return RankedList(scored.at(order.tolist()), None, retriever)

    def _candidates(self, asked: Prepared, retriever: Retriever | None) -> list[str]:
        """Return those of the request's own candidates that it allows, in its order."""
        left_out = {*asked.met, *asked.limits.exclude}
        candidate_ids = [
            item_id
            for item_id in dict.fromkeys(asked.request.candidate_ids or ())
            if item_id not in left_out
        ]
        if asked.limits.filter is None:
            return candidate_ids
        items = retriever or self._live.shelf
        return list(compress(candidate_ids, items.holding(candidate_ids, asked.limits.filter)))

    async def _trending_list(self, asked: Prepared) -> RankedList:
        """Return trending items, then popular ones, then any of the catalogue.

        A version knows which were popular; without one it is what was trending before.
        """
        shares = dict(await self._trending.items())
        retriever = self._live.retriever_for(asked.request.user_id)
        trending = [item_id for item_id in shares if item_id not in self._live.deleted]
        if retriever is not None:
            item_ids = retriever.popular_items(
                asked.pool, first=trending, exclude=asked.met, limits=asked.limits
            )
        else:
            faded = [each for each in self._trending.faded if each not in self._live.deleted]
            item_ids = self._without_version(asked, [*trending, *faded])
        found = _unscored(item_ids, shares)
        if item_ids:
            return RankedList(
                found, without_model(asked.trouble, asked.session, has_model=retriever is not None)
            )
        if trending or len(self._live.shelf) or retriever is not None:
            return RankedList(found, shortage(asked.request, asked.shown, 0))
        return RankedList(found, NO_ITEMS if self._live.knows_items else NO_CATALOGUE)

    def _without_version(self, asked: Prepared, popular: Sequence[str]) -> list[str]:
        """Return popular items, known to the catalogue or not, then others of the catalogue."""
        shelf, limits = self._live.shelf, asked.limits
        left_out = {*asked.met, *limits.exclude}
        first = [item_id for item_id in popular if item_id not in left_out]
        if limits.filter is not None:
            first = list(compress(first, shelf.holding(first, limits.filter)))
        first = first[: asked.pool]
        rest = shelf.first_of(
            np.zeros(0, np.int64), asked.pool - len(first), limits, [*asked.met, *first]
        )
        return first + shelf.ids(rest)

    def _page(
        self, asked: Prepared, found: Recommendations, retriever: Retriever | None
    ) -> tuple[Recommendations, str | None]:
        """Return the k items to show, and in words why they are not as diverse as was asked for.

        Without a model there is no saying which are alike.
        """
        k, diversity = asked.request.k, asked.request.diversity
        best = range(min(k, len(found.item_ids)))
        if not diversity or retriever is None:
            return found.at(best), None
        try:
            page = retriever.diversify(found, k, diversity)
        except Exception as exc:  # noqa: BLE001 - whatever it runs into, the list is there
            self._alike.met(exc)
            self._live.failures += 1
            return found.at(best), DIVERSITY_FAILS
        self._alike.over()
        return page, None

    async def _explained(
        self, asked: Prepared, page: Recommendations, retriever: Retriever | None
    ) -> tuple[list[Recommendation], str | None]:
        """Return the items as they are shown, with reasons when they are asked for and known.

        And in words why there are none, where the version fails to say them.
        """
        rows = list(map(Recommendation, page.item_ids, page.scores, page.cold))
        if not asked.request.explain or retriever is None:
            return rows, None
        try:
            # In a thread: it takes as long as ten requests, which must not wait for it.
            effects = await asyncio.to_thread(
                retriever.explain, asked.session, page.item_ids, exclude=asked.met
            )
        except Exception as exc:  # noqa: BLE001 - whatever it runs into, the list is there
            self._reasoning.met(exc)
            self._live.failures += 1
            return rows, REASONS_FAIL
        self._reasoning.over()
        reasons = map(_reasons, effects)
        return list(map(Recommendation, page.item_ids, page.scores, page.cold, reasons)), None


def _unranked(
    asked: Prepared, candidate_ids: Sequence[str], retriever: Retriever | None
) -> RankedList:
    """Return the request's own candidates in their order: there is nothing to rank them by."""
    if not candidate_ids:
        return RankedList(_unscored([]), NO_CANDIDATES)
    why = without_model(asked.trouble, asked.session, has_model=retriever is not None).partition(
        ":"
    )[0]
    return RankedList(_unscored(candidate_ids[: asked.pool]), f"{why}: scores are 0.")


def _reasons(effects: dict[str, float]) -> list[Reason]:
    strongest = sorted(effects.items(), key=lambda row: -abs(row[1]))[:_REASONS]
    return [Reason(item_id, effect) for item_id, effect in strongest if effect]


def _unscored(item_ids: Sequence[str], shares: dict[str, float] | None = None) -> Recommendations:
    """Return items that the model has not scored, with their shares of all events, or 0."""
    shares = shares or {}
    scores = [shares.get(item_id, 0.0) for item_id in item_ids]
    return Recommendations(list(item_ids), scores, [False] * len(item_ids))
