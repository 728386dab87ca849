"""Lists that users were served, made up, and what events come to against them, computed plainly."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from headrace.evaluation import GAIN, LISTS, NOT_THE_MODELS, Score
from headrace.impressions import Asked, Impression, Newest, SessionState
from headrace.sessions import LoggedEvent
from headrace.settings import Settings

V1, V2 = "20240101T000000Z-00000a", "20240102T000000Z-00000a"


def impression(
    user_id: str | None,
    served_at: float,
    item_ids: Sequence[str],
    *,
    version: str | None = V1,
    met: Sequence[str] = (),
    **asked: Any,
) -> Impression:
    """A list of these items, served to a user who had just met `met`."""
    return Impression(
        id=uuid.uuid4().hex,
        user_id=user_id,
        served_at=served_at,
        item_ids=tuple(item_ids),
        scores=(0.5,) * len(item_ids),
        model_id="default",
        version=version,
        asked=Asked(**{"k": len(item_ids), **asked}),
        session=SessionState(
            interactions=len(met),
            applied=len(met),
            updated_at=None,
            marks={},
            newest=Newest(
                tuple(met), (served_at,) * len(met), ("click",) * len(met), (None,) * len(met)
            ),
        ),
    )


def fold_scores(
    impressions: Iterable[Impression], log: Iterable[LoggedEvent], settings: Settings
) -> dict[str, Score]:
    """What a log comes to against these lists, all of which were served before the log was read."""
    lists: dict[str, list[Impression]] = {}
    for each in impressions:
        asked = each.asked
        if each.user_id and asked.k >= settings.evaluation.k and asked == Asked(
            k=asked.k, recommend_seen=asked.recommend_seen
        ):  # fmt: skip
            lists.setdefault(each.user_id, []).append(each)
    passed: dict[str, set[str]] = {}
    scores: dict[str, Score] = {}
    for logged in log:
        event = logged.event
        rating = getattr(event, "rating", None)
        if rating is not None and rating < settings.training.positive_threshold:
            continue
        of_user = sorted(lists.get(event.user_id, []), key=lambda each: each.served_at)[-LISTS:]
        before = [each for each in of_user if each.served_at <= event.timestamp]
        if not before or before[-1].served_at < event.timestamp - settings.impressions.ttl_s:
            continue
        last = before[-1]
        met = () if last.asked.recommend_seen else last.session.newest.item_ids
        out = passed.setdefault(last.id, set(met))
        if event.item_id in out:
            continue
        out.add(event.item_id)
        first = list(last.item_ids[: settings.evaluation.k])
        rank = first.index(event.item_id) + 1 if event.item_id in first else None
        gain = round(GAIN / math.log2(1 + rank)) if rank else 0
        label = last.version or NOT_THE_MODELS
        scores[label] = scores.get(label, Score()) + Score(1, int(rank is not None), gain)
    return scores
