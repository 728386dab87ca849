"""The clock asks once for each tick that somebody sees, and once for all that nobody saw."""

from __future__ import annotations

from datetime import datetime, timezone

import msgspec
import pytest
from redis.asyncio import Redis

from headrace.errors import InvalidSetting
from headrace.model_settings import ModelSettings
from headrace.settings import RetrainSettings, Settings
from models.training.schedule import ClockTrigger, last_tick


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def trigger(redis: Redis, settings: Settings, every: str) -> ClockTrigger:
    retrain = RetrainSettings(every=every)
    return ClockTrigger(redis, msgspec.structs.replace(settings, retrain=retrain))


async def fired(trigger: ClockTrigger, now: float) -> str | None:
    due = await trigger.due(now)
    if due is None:
        return None
    request, tick = due
    await trigger.note(tick)
    return request.idempotency_key


@pytest.mark.parametrize(
    ("every", "now", "tick"),
    [
        ("24h", "2026-11-25T18:00", "2026-11-25T00:00"),
        ("90m", "2026-11-25T01:31", "2026-11-25T01:30"),
        ("0 3 * * *", "2026-11-25T02:59:59.900", "2026-11-24T03:00"),
        ("0 3 * * *", "2026-11-25T03:00", "2026-11-25T03:00"),
        ("*/15 8-18 * * 1-5", "2026-11-29T12:00", "2026-11-27T18:45"),
    ],
)
def test_a_tick_is_a_multiple_of_a_duration_or_a_time_of_cron(
    every: str, now: str, tick: str
) -> None:
    assert last_tick(every)(at(now)) == at(tick)


@pytest.mark.parametrize("every", ["often", "10", "30s", "61 * * * *", "0 3 * *", "@daily"])
def test_what_is_neither_is_named(every: str) -> None:
    with pytest.raises(InvalidSetting, match="HEADRACE_RETRAIN_EVERY"):
        last_tick(every)


async def test_the_clock_asks_for_what_settings_say(redis: Redis, settings: Settings) -> None:
    models = {"books": ModelSettings(request={"epochs": 3}), "films": ModelSettings()}
    retrain = RetrainSettings(every="1h", request={"mode": "full", "params": {"width": 32}})
    settings = msgspec.structs.replace(settings, models=models, retrain=retrain)
    asked = {}
    for model_id in settings.model_ids:
        clock = ClockTrigger(redis, settings.of_model(model_id))
        assert await clock.due(3_600.0) is None
        due = await clock.due(7_200.0)
        assert due is not None
        asked[model_id] = (due[0].model_id, due[0].mode, due[0].params, due[0].epochs)
    assert asked == {
        "default": ("default", "full", {"width": 32}, None),
        "books": ("books", None, {}, 3),
        "films": ("films", "full", {"width": 32}, None),
    }


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"epochs": 0}, "retrain.request cannot be asked for. epochs: is 0; it must be a whole"),
        ({"idempotency_key": "k"}, "idempotency_key: is not for settings to say"),
        ({"nothing": 1}, "nothing: is not a field"),
        ({"algorithm": "svd"}, "algorithm: is 'svd'; retrieval has transformer"),
        ({"kind": "ranking"}, "kind: is ranking, and model ranking is the second stage"),
    ],
)
def test_what_could_not_be_asked_for_stops_the_trainer(
    redis: Redis, settings: Settings, request_: dict[str, object], words: str
) -> None:
    retrain = RetrainSettings(every="1h", request=request_)
    with pytest.raises(InvalidSetting, match=words):
        ClockTrigger(redis, msgspec.structs.replace(settings, retrain=retrain))


async def test_the_clock_asks_what_helps_a_model_for_its_own_kind(
    redis: Redis, settings: Settings
) -> None:
    algorithms = {"items": "two-tower", "ranking": "mlp"}
    models = {
        model_id: ModelSettings(request={"algorithm": algorithm})
        for model_id, algorithm in algorithms.items()
    }
    retrain = RetrainSettings(every="1h", request={"with_feedback": True})
    listed = msgspec.structs.replace(settings, models=models, retrain=retrain)
    for model_id, algorithm in algorithms.items():
        clock = ClockTrigger(redis, listed.of_model(model_id))
        assert await clock.due(3_600.0) is None
        due = await clock.due(7_200.0)
        assert due is not None
        assert due[0].algorithm == algorithm
    # What the others are asked for does not fit a second stage.
    plain = msgspec.structs.replace(listed, models={"ranking": ModelSettings()})
    with pytest.raises(InvalidSetting, match="with_feedback: is true; a second stage"):
        ClockTrigger(redis, plain.of_model("ranking"))


async def test_each_tick_is_one_request_however_many_look(redis: Redis, settings: Settings) -> None:
    first, second = (trigger(redis, settings, "1h") for _ in range(2))
    # Not for the past, from the first look on.
    assert await fired(first, 7_300.0) is None
    assert await fired(second, 10_799.0) is None
    # Both see it before either has noted it: the key makes it one task.
    due = [await each.due(10_800.0) for each in (first, second)]
    keys = {each[0].idempotency_key for each in due if each is not None}
    assert keys == {f"clock-{settings.model_id}-10800"}
    for each in (first, second):
        await each.note(10_800.0)
    assert await fired(first, 14_399.0) is None
    # Nobody looked for ten hours.
    assert await fired(second, 50_500.0) == f"clock-{settings.model_id}-50400"
    assert await fired(first, 50_500.0) is None


async def test_a_tick_is_not_missed_by_who_dies_before_noting_it(
    redis: Redis, settings: Settings
) -> None:
    clock = trigger(redis, settings, "1h")
    await fired(clock, 0.0)
    assert await clock.due(3_600.0) is not None
    assert await fired(trigger(redis, settings, "1h"), 3_601.0) is not None
    # Who comes late with an older tick does not put the newer one back.
    await clock.note(0.0)
    assert await clock.due(3_602.0) is None


async def test_without_a_schedule_nothing_is_asked(redis: Redis, settings: Settings) -> None:
    assert await trigger(redis, settings, "").due(1e9) is None
