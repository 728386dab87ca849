"""What a list says of itself in words, when it is not what was asked for."""

from __future__ import annotations

from collections.abc import Sized

from headrace.sessions import Session
from serving.schemas.recommendations import RecommendationRequest

NO_MODEL = "There is no model yet: these are trending items."
MODEL_FAILS = "The model fails to answer: these are popular items."
RANKING_FAILS = "The second stage fails to reorder: these are in the order of retrieval."
DIVERSITY_FAILS = "The model fails to tell which items are alike: these are in order of score."
REASONS_FAIL = "The model fails to tell what moved these items: there are no reasons."
STAND_IN = "The version that is to answer fails to: another one has made this list."
NO_SESSION = "The session store is away: these are popular items."
UNKNOWN_USER = "Nothing is known of this user yet: these are trending items."
UNKNOWN_ITEMS = "The model knows none of the session's items: these are trending items."
NO_ITEMS = "There are no items to recommend yet."
NO_CATALOGUE = "The catalogue cannot be read yet: there are no items to choose from so far."
NONE_LEFT = "This user has met every item there is to recommend."
NONE_ALLOWED = "No item is left that the request's filter, exclude_ids and cursor allow."
NO_CANDIDATES = (
    "None of the request's candidate_ids is left: there were none, its filter, exclude_ids and "
    "cursor do not allow them, or this user has met or hidden them."
)
FEWER = "There are fewer items left to recommend than were asked for."


def without_model(trouble: str | None, session: Session, *, has_model: bool) -> str:
    """Return why a list does not come from the model; `trouble`: why the session is not there."""
    if trouble is not None:
        return trouble
    if not has_model:
        return NO_MODEL
    return UNKNOWN_ITEMS if session.item_ids else UNKNOWN_USER


def shortage(request: RecommendationRequest, shown: Sized, found: int) -> str | None:
    """Return in words that fewer items were found than were asked for, None when there are not.

    `shown`: the items that the pages before have shown.
    """
    if found >= request.k:
        return None
    if found:
        return FEWER
    limited = request.filter is not None or request.exclude_ids or shown
    return NONE_ALLOWED if limited else NONE_LEFT
