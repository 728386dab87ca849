"""Sending to a real broker."""

from __future__ import annotations

import pytest

from headrace.errors import HeadraceError
from headrace.events import Rating
from headrace.local.demo.feed import feed
from headrace.log import end_offsets, read_columns
from headrace.settings import Settings
from headrace.topics import ensure_topics


async def test_every_rating_arrives_once_and_a_users_in_order(settings: Settings) -> None:
    ensure_topics(settings)
    ratings = [
        Rating(
            event_id=str(number),
            user_id=f"u{number % 7}",
            item_id=f"i{number}",
            timestamp=1.0,  # equal: the log's order alone keeps them apart
            rating=3,
        )
        for number in range(2_000)
    ]
    told: list[int] = []
    await feed(ratings, settings, told.append)
    assert sum(told) == 2_000
    columns = read_columns(settings, end_offsets(settings))
    assert len(columns) == 2_000
    for code, user_id in enumerate(columns.user_ids):
        sent = [rating.item_id for rating in ratings if rating.user_id == user_id]
        assert [columns.item_ids[item] for item in columns.item[columns.user == code]] == sent


async def test_without_a_broker_the_error_names_it() -> None:
    with pytest.raises(HeadraceError, match=r"127\.0\.0\.1:9"):
        await feed([], Settings(kafka="127.0.0.1:9"), lambda _: None)
