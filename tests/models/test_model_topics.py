"""What a model is trained on: the events of its own topics, or of all models' topics."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from kafka_tools import send_events

from headrace.log import end_offsets, read_columns
from headrace.model_settings import EventTopicNames, ModelSettings
from headrace.settings import Settings
from headrace.topics import Topics, ensure_topics, topic_ids
from headrace.training_requests import TrainingRequest
from headrace.training_settings import TrainingSettings
from models.retrieval import load_artifact
from models.training.job import train
from models.training.job_messages import Job

NOW = 1_704_060_026
TINY = TrainingSettings(width=8, session_length=4, epochs=1, min_steps=3, final_epochs=0)


@pytest.fixture
def made(settings: Settings) -> Settings:
    """With a model that has topics of its own; 120 clicks in the shared ones, 60 in those."""
    made = msgspec.structs.replace(
        settings, models={"books": ModelSettings(EventTopicNames())}, training=TINY
    )
    ensure_topics(made)
    for topic, count in (("clicks", 120), ("books-clicks", 60)):
        events = [
            {
                "event_id": f"{topic}-{number}",
                "user_id": f"user-{number % 10}",
                "item_id": f"{topic}-{number % 7}",
                "timestamp": NOW + number,
            }
            for number in range(count)
        ]
        send_events(made, topic, events)
    return made


def test_a_model_sees_its_own_topics_and_all_when_it_is_asked_for(made: Settings) -> None:
    shared = read_columns(made, end_offsets(made))
    assert len(shared) == 120
    assert {item.rpartition("-")[0] for item in shared.item_ids} == {"clicks"}
    books = made.of_model("books")
    own = read_columns(books, end_offsets(books))
    assert len(own) == 60
    assert {item.rpartition("-")[0] for item in own.item_ids} == {"books-clicks"}

    topics = Topics(books).to_train(global_data=True)
    both = read_columns(books, end_offsets(books, topics), topics=topics)
    assert len(both) == 180
    assert len(both.user_ids) == 10
    # By time, then by topic: of one moment the click on a book comes first.
    assert np.all(np.diff(both.timestamp) >= 0)
    first = [both.item_ids[item].rpartition("-")[0] for item in both.item[:4]]
    assert first == ["books-clicks", "clicks", "books-clicks", "clicks"]
    again = read_columns(made, end_offsets(made, topics), topics=topics)
    assert np.array_equal(again.item, both.item)


def test_a_version_names_the_topics_of_all_models_it_was_trained_on(made: Settings) -> None:
    topics = Topics(made).to_train(global_data=True)
    job = Job(
        model_id="books",
        version="v1",
        created_at=0.0,
        through=end_offsets(made, topics),
        topic_ids=topic_ids(made, topics),
        request=TrainingRequest(global_data=True),
    )
    train(made, job, io.StringIO())
    manifest = load_artifact(Path(made.artifacts) / "books" / "v1").manifest
    assert manifest.model_id == "books"
    assert manifest.data.events == 180
    assert set(manifest.data.topic_ids) == {*topics}
    assert sum(manifest.data.through["books-clicks"].values()) == 60
    assert sum(manifest.data.through["clicks"].values()) == 120
