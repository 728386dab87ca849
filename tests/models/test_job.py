"""A training from the broker's log: the manifest says which topics its offsets are of."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from kafka_tools import send_events

from headrace.errors import HeadraceError
from headrace.log import end_offsets
from headrace.settings import Settings, TrainingSettings
from headrace.topics import ensure_topics, event_topic_ids
from models.retrieval import load_artifact
from models.training.job import train
from models.training.runner import Job

TINY = TrainingSettings(width=8, session_length=4, epochs=1, min_steps=3, final_epochs=0)


def test_a_version_names_its_topics_and_counts_all_events(settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, training=TINY)
    ensure_topics(settings)
    clicks = [
        {
            "event_id": f"e{number}",
            "user_id": f"user-{number % 10}",
            "item_id": f"item-{(number % 10 + number // 10) % 7}",
            "timestamp": 1_704_060_026 + number,
        }
        for number in range(150)
    ]
    send_events(settings, "clicks", clicks)
    topic_ids = event_topic_ids(settings)
    assert set(topic_ids) == {"clicks", "purchases", "ratings"}
    assert len(set(topic_ids.values())) == 3
    job = Job(
        model_id="default",
        version="v1",
        created_at=0.0,
        through=end_offsets(settings),
        topic_ids=topic_ids,
    )
    with pytest.raises(HeadraceError, match="made anew"):
        train(settings, msgspec.structs.replace(job, topic_ids={"clicks": "other"}), io.StringIO())
    train(settings, job, io.StringIO())
    artifact = load_artifact(Path(settings.artifacts) / "default" / "v1")
    assert artifact.manifest.data.topic_ids == topic_ids
    # Ten users with 15 events each: 14 steps of distance 1, 13 of distance 2, …, 5 of distance 10.
    expected = 10 * sum((15 - d) / d for d in range(1, 11))
    assert artifact.rules.weights.sum() == pytest.approx(expected)
    # Everyone meets item n + 1 after item n.
    for item in range(7):
        target = artifact.rules.targets[artifact.rules.starts[item]]
        first, second = artifact.item_ids[item], artifact.item_ids[target]
        assert int(second[-1]) == (int(first[-1]) + 1) % 7
