"""A training from the broker's log: the manifest says which topics its offsets are of."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from job_tools import clicks, job_of, serve
from kafka_tools import send_events
from ranking_tools import exported, write_ranker

from headrace.artifact_store import ArtifactStore
from headrace.errors import HeadraceError
from headrace.producer import Producer
from headrace.settings import Settings
from headrace.store import connect
from headrace.task_reader import Success
from headrace.topics import ensure_topics, event_topic_ids
from headrace.training_requests import TrainingRequest
from headrace.training_settings import TrainingSettings
from headrace.version_store import VersionStore
from headrace.versions import FeedbackData
from models.retrieval import load_artifact
from models.retrieval.versions import check_version
from models.training.fingerprint import fingerprint, made_with
from models.training.incremental import Base, base_of, nothing_new
from models.training.job import train
from models.training.job_events import read_events
from models.training.job_messages import Job

# Between two clicks of a user are ten seconds.
TINY = TrainingSettings(
    width=8, session_length=4, epochs=1, min_steps=3, final_epochs=0, feedback_window_s=15.0
)


def rule_weights(events: int) -> float:
    """Of ten users with so many events each: one step of distance d less for each d up to 10."""
    return 10 * sum((events - d) / d for d in range(1, 11))


def test_a_version_names_its_topics_and_counts_all_events(settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, training=TINY)
    ensure_topics(settings)
    send_events(settings, "clicks", clicks(0, 150))
    ids = event_topic_ids(settings)
    assert set(ids) == {"clicks", "purchases", "ratings"}
    assert len(set(ids.values())) == 3
    job = job_of(settings, "v1")
    with pytest.raises(HeadraceError, match="made anew"):
        train(settings, msgspec.structs.replace(job, topic_ids={"clicks": "other"}), io.StringIO())
    told = io.StringIO()
    train(settings, job, told)
    artifact = load_artifact(Path(settings.artifacts) / "default" / "v1")
    assert artifact.manifest.data.topic_ids == ids
    # There is no list to learn from, which is said.
    assert "the topic holds no list" in artifact.manifest.notes[-1]
    assert artifact.manifest.data.feedback == FeedbackData(
        topic_id=job.lists.topic_id,
        through=job.lists.through,  # type: ignore[union-attr]
    )
    assert '"feedback":{"topic_id":' in told.getvalue()
    assert artifact.rules.weights.sum() == pytest.approx(rule_weights(15))
    # Everyone meets item n + 1 after item n.
    for item in range(7):
        target = artifact.rules.targets[artifact.rules.starts[item]]
        first, second = artifact.item_ids[item], artifact.item_ids[target]
        assert int(second[-1]) == (int(first[-1]) + 1) % 7


def test_the_next_training_goes_on_from_the_live_version(settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, training=TINY)
    ensure_topics(settings)
    send_events(settings, "clicks", clicks(0, 150))
    serve(settings, 0, 150)
    first, second = "20260101T000000Z-000001", "20260101T000000Z-000002"
    before = job_of(settings, first)
    train(settings, before, io.StringIO())
    newcomers = [{**click, "item_id": "item-new"} for click in clicks(195, 200)]
    send_events(settings, "clicks", [*clicks(150, 195), *newcomers])
    serve(settings, 150, 190)
    job = job_of(settings, second, base=first)
    train(settings, job, io.StringIO())

    artifacts = Path(settings.artifacts) / "default"
    once, onward = load_artifact(artifacts / first), load_artifact(artifacts / second)
    assert (once.manifest.mode, once.manifest.notes[0][:9]) == ("full", "In full: ")
    assert (onward.manifest.mode, onward.manifest.base) == ("incremental", first)
    assert (onward.manifest.data.events, onward.manifest.data.through) == (200, job.through)
    assert onward.item_ids == [*once.item_ids, "item-new"]
    assert onward.rules.weights.sum() == pytest.approx(rule_weights(20), rel=1e-4)
    # Everyone's last list was followed by no event. The second training reads the new lists, and
    # those ten of before on which nobody had acted when the first one was made.
    feedback = [each.manifest.data.feedback for each in (once, onward)]
    assert [(each.lists, each.choices) for each in feedback if each] == [(150, 140), (50, 45)]

    # The same again makes nothing.
    last = Success(
        version=second,
        made_with=made_with(job.request, TINY),
        mode="incremental",
        data=onward.manifest.data,
    )
    again = msgspec.structs.replace(job_of(settings, "v3", second), last=last)
    told = io.StringIO()
    train(settings, again, told)
    assert '"unchanged":true' in told.getvalue()
    assert not (artifacts / "v3").exists()

    # The fingerprint is of the lists, too; from the same events and lists comes the same version.
    told_of = fingerprint(read_events(settings, before, lambda _: None))
    assert once.manifest.data.fingerprint != told_of
    repeated = msgspec.structs.replace(before, version="20260101T000000Z-000003")
    train(settings, repeated, io.StringIO())
    same = load_artifact(artifacts / repeated.version)
    assert same.manifest.data == once.manifest.data
    np.testing.assert_allclose(same.item_vectors, once.item_vectors, atol=1e-6)

    # What cannot be gone on from is said in words.
    def why(job: Job, **changes: object) -> object:
        parameters = msgspec.structs.replace(TINY, **changes)
        return base_of(settings, ArtifactStore(settings), job, parameters)

    assert isinstance(why(job), Base)
    assert "width is 16 where" in str(why(job, width=16))
    anew = msgspec.structs.replace(job, topic_ids={**job.topic_ids, "clicks": "other"})
    assert "topics were made anew" in str(why(anew))
    assert "no live version" in str(why(job_of(settings, "v3")))
    assert "is not there" in str(why(job_of(settings, "v3", "20260101T000000Z-000009")))
    assert "nothing is new" in str(why(job_of(settings, "v3", second)))
    # Once a user was erased, what a version has learnt is not carried on, unless that is asked for.
    erased = "a digest of erasures"
    default = msgspec.structs.replace(job, request=TrainingRequest())
    by_name = msgspec.structs.replace(job, request=TrainingRequest(mode="incremental"))
    store = ArtifactStore(settings)
    assert "a user was erased since" in str(base_of(settings, store, default, TINY, erased))
    assert isinstance(base_of(settings, store, by_name, TINY, erased), Base)
    assert nothing_new(again, last.made_with)
    assert not nothing_new(again, last.made_with, erased)
    # Nor where ops went back by two: from there what the last success knows is another fingerprint.
    # What they have deleted since, as this one, tells as well.
    other_data = msgspec.structs.replace(onward.manifest.data, fingerprint="another")
    for mode in ("incremental", "full"):
        further = Success(
            version="20260101T000000Z-000004",
            made_with=last.made_with,
            mode=mode,  # type: ignore[arg-type]
            data=other_data,
        )
        back = msgspec.structs.replace(job_of(settings, "v3", first), last=further)
        told = io.StringIO()
        train(settings, back, told)
        assert '"unchanged":true' in told.getvalue()
        assert not (artifacts / "v3").exists()
    # A whole log that is read tells by itself.
    assert not nothing_new(back, last.made_with)
    part = msgspec.structs.replace(job, request=TrainingRequest(from_=5.0))
    assert "a part of the log" in str(why(part))
    assert why(msgspec.structs.replace(job, request=TrainingRequest(mode="full"))) is None
    (artifacts / first / "training.npz").write_bytes(b"PK")
    assert "cannot be used" in str(why(job))


def test_a_second_stage_is_measured_beside_the_live_one(settings: Settings) -> None:
    # Everyone meets seven items, over and over: what may be listed again can be found.
    settings = msgspec.structs.replace(
        settings, training=msgspec.structs.replace(TINY, repeats=True)
    )
    ensure_topics(settings)
    first, second = "20260101T000000Z-000001", "20260101T000000Z-000002"
    artifacts = Path(settings.artifacts) / "default"
    write_ranker(artifacts / first, exported(lambda features: features[:, 0]))

    async def activate() -> None:
        redis, producer = connect(settings), Producer(settings)
        versions = VersionStore(redis, settings, producer)
        await versions.activate("default", first, now=0.0, reason="a test")
        await producer.close()
        await redis.aclose()

    asyncio.run(activate())
    send_events(settings, "clicks", clicks(0, 800))
    request = TrainingRequest(kind="ranking")
    job = msgspec.structs.replace(job_of(settings, second), request=request, lists=None)
    train(settings, job, io.StringIO())
    manifest = check_version(artifacts / second)
    verdict = manifest.verdict
    assert verdict is not None
    assert (verdict.against, verdict.live) == (first, first)
    assert verdict.events
    assert manifest.metrics.items() >= verdict.figures().items()
    # The live one leaves retrieval's order as it is.
    assert verdict.baseline_ndcg_at_10 == pytest.approx(manifest.metrics["without_ndcg_at_10"])
