"""Jobs on made-up clicks, and on lists that were served between them."""

from __future__ import annotations

import msgspec
from impression_tools import impression
from kafka_tools import send_raw

from headrace.log import end_offsets
from headrace.settings import Settings
from headrace.topics import IMPRESSIONS, event_topic_ids, topic_ids
from headrace.training_requests import TrainingRequest
from headrace.versions import ListsSpan
from models.training.job_messages import Job


def clicks(first: int, end: int) -> list[dict[str, object]]:
    """Ten users who walk round seven items, everyone at the same pace."""
    return [
        {
            "event_id": f"e{number}",
            "user_id": f"user-{number % 10}",
            "item_id": f"item-{(number % 10 + number // 10) % 7}",
            "timestamp": 1_704_060_026 + number,
        }
        for number in range(first, end)
    ]


def serve(settings: Settings, first: int, end: int) -> None:
    """Half a second after each click a list: the next item but two, and the next, which is it."""
    lists = []
    for click in clicks(first, end):
        number = int(str(click["item_id"])[-1])
        items = [f"item-{(number + step) % 7}" for step in (3, 1)]
        lists.append(impression(str(click["user_id"]), click["timestamp"] + 0.5, items))  # type: ignore[operator]
    records = [((each.user_id or "").encode(), msgspec.json.encode(each)) for each in lists]
    send_raw(settings, IMPRESSIONS, records)


def job_of(settings: Settings, version: str, base: str | None = None) -> Job:
    """A job that is to learn from the lists that were served, too."""
    (topic_id,) = topic_ids(settings, (IMPRESSIONS,)).values()
    (through,) = end_offsets(settings, (IMPRESSIONS,)).values()
    return Job(
        model_id="default",
        version=version,
        created_at=0.0,
        through=end_offsets(settings),
        topic_ids=event_topic_ids(settings),
        lists=ListsSpan(topic_id=topic_id, through=through),
        request=TrainingRequest(with_feedback=True),
        base=base,
    )
