"""The way of a request: the session, the model, and what there is when one of them is missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from msgspec import Struct
from redis.exceptions import RedisError

from headrace.sessions import Session, SessionStore
from headrace.settings import Settings
from models.retrieval.retriever import Recommendations, Retriever
from serving.live_model import LiveModel
from serving.schemas import (
    ModelInfo,
    Recommendation,
    RecommendationAnswer,
    RecommendationRequest,
    SessionInfo,
)
from serving.trending import TrendingCache

logger = logging.getLogger(__name__)

_SPARE = 100
"""Candidates beyond k for a user who has met more items than the session dictionary holds."""
NO_MODEL = "There is no model yet: these are trending items."
NO_SESSION = "The session store is away: these are popular items."
UNKNOWN_USER = "Nothing is known of this user yet: these are trending items."
UNKNOWN_ITEMS = "The model knows none of the session's items: these are trending items."
NO_ITEMS = "There are no items to recommend yet."
NONE_LEFT = "This user has met every item there is to recommend."
FEWER = "There are fewer items left to recommend than were asked for."


class _List(Struct, frozen=True):
    recommendations: list[Recommendation]
    message: str | None = None
    from_model: bool = True


class Recommender:
    """Answers requests for recommendations. There is an answer whatever part is missing."""

    def __init__(
        self,
        settings: Settings,
        sessions: SessionStore,
        live: LiveModel,
        trending: TrendingCache,
        new_id: Callable[[], str],
    ) -> None:
        self._limit = settings.sessions.limit
        self._model_id = settings.model_id
        self._sessions = sessions
        self._live = live
        self._trending = trending
        self._new_id = new_id

    async def answer(self, request: RecommendationRequest) -> RecommendationAnswer:
        """Return what to recommend, and from which session and version it comes."""
        session, trouble = await self._session(request)
        # One version answers the whole request, whatever is swapped in meanwhile; it is chosen now
        # that the catalogue's news is known.
        retriever = self._live.retriever
        found = await self._recommend(request, session, retriever, trouble)
        model = (
            ModelInfo(self._model_id, retriever.manifest.version)
            if retriever is not None and found.from_model
            else None
        )
        return RecommendationAnswer(
            id=self._new_id(),
            recommendations=found.recommendations,
            message=found.message,
            model=model,
            session=SessionInfo(
                interactions=len(session.item_ids),
                applied=session.applied,
                updated_at=session.updated_at,
                marks=session.marks,
            ),
        )

    async def _session(self, request: RecommendationRequest) -> tuple[Session, str | None]:
        """Return the session, having heard with it what the catalogue has deleted."""
        if request.user_id is None:
            await self._live.hear()
            return Session.from_interactions(request.user_interactions or {}, self._limit), None
        try:
            [session] = await self._live.read(self._sessions.reading(request.user_id))
            return session, None
        except (RedisError, OSError) as exc:
            logger.warning("a session cannot be read: %r", exc)
            return Session(), NO_SESSION

    async def _recommend(
        self,
        request: RecommendationRequest,
        session: Session,
        retriever: Retriever | None,
        trouble: str | None,
    ) -> _List:
        if request.candidate_ids is not None:
            return await self._rank(request, session, retriever, trouble)
        if retriever is None:
            return await self._trending_list(request, session, None, trouble or NO_MODEL)
        if not session.item_ids:
            return await self._trending_list(request, session, retriever, trouble or UNKNOWN_USER)
        found = await self._unseen(request, session, retriever)
        if found is None:
            return await self._trending_list(request, session, retriever, UNKNOWN_ITEMS)
        recommendations = _rows(found)[: request.k]
        return _List(recommendations, None if len(recommendations) == request.k else FEWER)

    async def _unseen(
        self, request: RecommendationRequest, session: Session, retriever: Retriever
    ) -> Recommendations | None:
        if request.recommend_seen:
            return retriever.recommend(session, request.k, exclude=session.hidden)
        excluded = (*session.item_ids, *session.hidden)
        if not self._seen_more(request, session):
            return retriever.recommend(session, request.k, exclude=excluded)
        found = retriever.recommend(session, request.k + _SPARE, exclude=excluded)
        if found is None or request.user_id is None:
            return found
        seen = await self._seen(request.user_id, found.item_ids)
        unseen = _without(found, seen)
        if len(unseen.item_ids) >= request.k or len(found.item_ids) < request.k + _SPARE:
            return unseen
        all_seen = await self._all_seen(request.user_id, session)
        return retriever.recommend(session, request.k, exclude=(*all_seen, *session.hidden))

    def _seen_more(self, request: RecommendationRequest, session: Session) -> bool:
        """Whether the user may have met items that the full session dictionary has dropped."""
        return request.user_id is not None and len(session.item_ids) >= self._limit

    async def _seen(self, user_id: str, item_ids: Sequence[str]) -> list[bool]:
        try:
            return await self._sessions.seen(user_id, item_ids)
        except (RedisError, OSError) as exc:
            logger.warning("seen items cannot be read: %r", exc)
            return [False] * len(item_ids)

    async def _all_seen(self, user_id: str, session: Session) -> Sequence[str]:
        try:
            return await self._sessions.all_seen(user_id)
        except (RedisError, OSError) as exc:
            logger.warning("seen items cannot be read: %r", exc)
            return session.item_ids

    async def _trending_list(
        self,
        request: RecommendationRequest,
        session: Session,
        retriever: Retriever | None,
        message: str,
    ) -> _List:
        """Return trending items; where there are none, the version's own popular ones."""
        shares = dict(await self._trending.items())
        item_ids = list(shares)
        if retriever is not None:
            # A version has items when Redis is away, too.
            known = dict.fromkeys([*item_ids, *retriever.popular])
            item_ids = [item_id for item_id in known if item_id in retriever]
        hidden = set(session.hidden)
        item_ids = [at for at in item_ids if at not in self._live.deleted and at not in hidden]
        some = bool(item_ids)
        if not request.recommend_seen:
            item_ids = await self._not_met(request, session, item_ids)
        chosen = [Recommendation(at, shares.get(at, 0.0)) for at in item_ids[: request.k]]
        return _List(
            chosen, message if chosen else NONE_LEFT if some else NO_ITEMS, from_model=False
        )

    async def _rank(
        self,
        request: RecommendationRequest,
        session: Session,
        retriever: Retriever | None,
        trouble: str | None,
    ) -> _List:
        """Rank the request's own candidates; equal scores keep the order of the request."""
        hidden = set(session.hidden)
        candidate_ids = [
            at for at in dict.fromkeys(request.candidate_ids or ()) if at not in hidden
        ]
        if not request.recommend_seen:
            candidate_ids = await self._not_met(request, session, candidate_ids)
        met = () if request.recommend_seen else session.item_ids
        scored = retriever.score(session, candidate_ids, exclude=met) if retriever else None
        if scored is not None:
            return _List(sorted(_rows(scored), key=lambda row: -row.score)[: request.k])
        unscored = [Recommendation(item_id, 0.0) for item_id in candidate_ids[: request.k]]
        if trouble is None:
            trouble = UNKNOWN_ITEMS if session.item_ids else UNKNOWN_USER
        reason = NO_MODEL if retriever is None else trouble
        return _List(unscored, f"{reason.partition(':')[0]}: scores are 0.", from_model=False)

    async def _not_met(
        self, request: RecommendationRequest, session: Session, item_ids: Sequence[str]
    ) -> list[str]:
        met = set(session.item_ids)
        left = [item_id for item_id in item_ids if item_id not in met]
        if request.user_id is None or not self._seen_more(request, session):
            return left
        seen = await self._seen(request.user_id, left)
        return [item_id for item_id, met_before in zip(left, seen, strict=True) if not met_before]


def _rows(found: Recommendations) -> list[Recommendation]:
    return list(map(Recommendation, found.item_ids, found.scores, found.cold))


def _without(found: Recommendations, seen: Sequence[bool]) -> Recommendations:
    kept = [place for place, met in enumerate(seen) if not met]
    return Recommendations(
        [found.item_ids[place] for place in kept],
        [found.scores[place] for place in kept],
        [found.cold[place] for place in kept],
    )
