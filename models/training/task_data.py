"""What a task trains on: which topics, and how far, as it stays whoever goes on with the task."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.errors import HeadraceError
from headrace.log import Offsets, end_offsets
from headrace.settings import Settings
from headrace.task_files import data_file
from headrace.tasks import Task
from headrace.topics import IMPRESSIONS, Topics, topic_ids
from headrace.versions import ListsSpan


async def data_of(settings: Settings, task: Task) -> dict[str, Any]:
    """Return what a task that starts now trains on, for its field `data`.

    Raises `HeadraceError` for a log that does not go as far as was asked for, and
    `KafkaUnavailable`.
    """
    request = task.request
    topics: tuple[str, ...] = ()
    if data_file(task) is None:
        of_model = settings.of_model(task.model_id)
        topics = Topics(of_model).to_train(global_data=request.global_data)
    ids, ends = await _known(settings, topics)
    data: dict[str, Any] = {"offsets": {}, "topic_ids": ids}
    if topics:
        begin, end = request.offsets()
        _check_there("from", ends, begin)
        _check_there("to", ends, end)
        data["offsets"] = _through(ends, end)
    if request.with_feedback:
        data["feedback"] = msgspec.to_builtins(await _lists(settings))
    return data


def topics_of(data: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return of which topics a task's offsets are: those of events, and that of lists."""
    return data.get("topic_ids"), data.get("feedback", {}).get("topic_id")


def lists_of(task: Task) -> ListsSpan | None:
    """Return which served lists the task learns from, as it was noted."""
    span = task.data.get("feedback")
    return None if span is None else msgspec.convert(span, ListsSpan)


async def _lists(settings: Settings) -> ListsSpan:
    ids, ends = await _known(settings, (IMPRESSIONS,))
    if IMPRESSIONS not in ids:
        raise HeadraceError(
            f"There is no topic {IMPRESSIONS} to learn from; `headrace topics create` makes it."
        )
    return ListsSpan(topic_id=ids[IMPRESSIONS], through=ends.get(IMPRESSIONS, {}))


async def _known(settings: Settings, topics: tuple[str, ...]) -> tuple[dict[str, str], Offsets]:
    """Return the topics' ids, and how far they go."""
    if not topics:
        return {}, {}
    return (
        await asyncio.to_thread(topic_ids, settings, topics),
        await asyncio.to_thread(end_offsets, settings, topics),
    )


def _check_there(name: str, ends: Offsets, asked: Offsets | None) -> None:
    """Raise `HeadraceError` when the log does not go so far. `name`: of the field that asks."""
    for topic, by_partition in (asked or {}).items():
        for partition, offset in by_partition.items():
            end = ends.get(topic, {}).get(partition)
            if end is None or offset > end:
                goes = "there is none" if end is None else f"it ends at {end:,}"
                raise HeadraceError(
                    f"`{name}` asks for offset {offset:,} of {topic}/{partition}; {goes}. Ask "
                    f"again with offsets that are there, or without `{name}`."
                )


def _through(ends: Offsets, asked: Offsets | None) -> Offsets:
    """Return how far to read: to the end, or as far as was asked for."""
    return {
        topic: {**by_partition, **(asked or {}).get(topic, {})}
        for topic, by_partition in ends.items()
    }
