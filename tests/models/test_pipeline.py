from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy import RING, TOY, item_id, toy_columns, toy_items

from headrace.catalog import Item
from headrace.errors import TooFewEvents
from headrace.training_settings import TrainingSettings
from headrace.versions import Manifest, read_manifests
from models.retrieval import load_artifact
from models.retrieval.features import item_features


def silent(step: str, fraction: float, **figures: float) -> None:
    """Report to nobody."""


def test_the_obvious_is_learnt(toy_manifest: Manifest) -> None:
    assert toy_manifest.metrics["hr_at_10"] >= 0.9
    assert toy_manifest.metrics["ndcg_at_10"] >= 0.7
    assert toy_manifest.metrics["popularity_hr_at_10"] <= 0.7


def test_the_manifest_says_what_the_version_was_made_from(toy_manifest: Manifest) -> None:
    data = toy_manifest.data
    assert (data.events, data.users, data.items) == (540, 60, 2 * RING)
    assert data.through == {"ratings": {"0": 540}}
    assert data.from_timestamp == 1_700_000_000.0
    assert toy_manifest.parameters["seed"] == TOY.seed
    assert toy_manifest.packages["tensorflow-recommenders"]


def test_only_the_whole_version_is_there(toy_manifest: Manifest, toy_artifacts: Path) -> None:
    assert [path.name for path in (toy_artifacts / "toy").iterdir()] == ["v1"]


def test_progress_rises_to_the_end(
    toy_manifest: Manifest, reports: list[tuple[str, float, dict[str, float]]]
) -> None:
    fractions = [fraction for _, fraction, _ in reports]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    fit = [figures for step, _, figures in reports if step == "fit"]
    assert all(figures["loss"] > 0 and 0 <= figures["hr_at_10"] <= 1 for figures in fit)


def test_same_data_parameters_and_seed_make_the_same_model() -> None:
    from models.training.dataset import histories
    from models.training.evaluation import item_vectors
    from models.training.fitting import build_model, fit, fit_on
    from models.training.framework import keras
    from models.training.inputs import Inputs

    short = TrainingSettings(width=8, session_length=4, epochs=1, min_steps=3, final_epochs=1)

    def fitted(seed: int) -> np.ndarray:
        keras.utils.set_random_seed(seed)
        data = histories(toy_columns(), short)
        model = build_model(data, item_features([Item(item_id=""), *toy_items()]), short)
        inputs = Inputs(data, short)
        fit(model, inputs, short, None, lambda *_: None)
        fit_on(model, inputs, short, lambda *_: None)
        return item_vectors(model)

    first = fitted(0)
    np.testing.assert_array_equal(first, fitted(0))
    assert np.abs(first - fitted(1)).max() > 1e-4


def test_a_version_is_never_written_over(
    toy_folder: Path, toy_artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.training.export import fresh_folder, publish

    before = (toy_folder / "manifest.json").read_bytes()
    manifest = load_artifact(toy_folder).manifest
    partial = fresh_folder(toy_artifacts / "toy" / ".v1.partial")
    with pytest.raises(FileExistsError, match="v1"):
        publish(partial, toy_folder, manifest)
    assert (toy_folder / "manifest.json").read_bytes() == before
    for path in partial.iterdir():
        path.unlink()
    partial.rmdir()


def test_too_few_events(tmp_path: Path) -> None:
    from models.training.pipeline import train

    with pytest.raises(TooFewEvents, match=r"20 events.*needs 100"):
        train(toy_columns(10, 2), [], TOY, tmp_path, "toy", "v", silent)
    picky = TrainingSettings(positive_threshold=9.0)
    with pytest.raises(TooFewEvents, match="POSITIVE_THRESHOLD, which is 9"):
        train(toy_columns(), toy_items(), picky, tmp_path, "toy", "v", silent)
    assert read_manifests(tmp_path, "toy") == []


def test_a_tower_that_computes_something_else_is_not_exported(toy_manifest: Manifest) -> None:
    from models.training import export
    from models.training.dataset import histories
    from models.training.fitting import build_model
    from models.training.samples import sample_sessions

    data = histories(toy_columns(), TOY)
    model = build_model(data, np.ones((1 + 2 * RING, 32), np.int32), TOY)
    vectors = np.random.default_rng(0).normal(size=(25, 16)).astype("f4")
    sessions = sample_sessions(data, 6)
    model.query_tower.last(vectors[None, :6], np.zeros((1, 6, 13), "f4"), np.array([6]))
    query_tower = export.convert_query_tower(model, 6, 16)
    candidate_tower = export.convert_candidate_tower(model)
    queries, parity = export.check_query_tower(model, query_tower, vectors, sessions)
    assert queries.shape == (len(sessions), 16)
    assert 0 < parity <= export.PARITY
    export.check_candidate_tower(model, candidate_tower)

    model.query_tower.side.kernel.assign_add(np.full((13, 16), 0.01, "f4") * vectors[:13])
    model.candidate_tower.ids.assign_add(np.full((25, 16), 0.01, "f4"))
    with pytest.raises(export.ExportFailed, match="query tower differs"):
        export.check_query_tower(model, query_tower, vectors, sessions)
    with pytest.raises(export.ExportFailed, match="candidate tower differs"):
        export.check_candidate_tower(model, candidate_tower)


def test_what_an_export_is_checked_on_are_sessions_of_the_log() -> None:
    from models.training.dataset import histories
    from models.training.samples import sample_sessions

    log = toy_columns(users=200, events=9)
    sessions = sample_sessions(histories(log, TOY), 6)
    assert len(sessions) == 1_000
    assert set(sessions.length.tolist()) == {1, 2, 3, 4, 5, 6}
    walks = {
        tuple(log.item[log.user == user][end - length : end] + 1)
        for user in range(200)
        for end in range(1, 9)
        for length in [min(end, 6)]
    }
    rows = zip(sessions.items.tolist(), sessions.length.tolist(), strict=True)
    assert all(tuple(items[6 - length :]) in walks for items, length in rows)


def test_the_manifest_says_how_the_towers_compare(toy_manifest: Manifest) -> None:
    # Of each of 60 users the sessions before the second to the last of nine events.
    assert toy_manifest.metrics["parity_sessions"] == 60 * 8
    assert 0 < toy_manifest.metrics["parity"] <= 1e-5
    assert toy_manifest.notes == ()


def test_serving_runs_without_tensorflow(toy_folder: Path) -> None:
    program = f"""
import sys
from pathlib import Path
import numpy as np
from headrace.sessions import Session
from models.retrieval import Retriever, ScannIndex, load_artifact
artifact = load_artifact(Path({str(toy_folder)!r}))
retriever = Retriever(artifact, ScannIndex.build(artifact.item_vectors))
session = Session(("alpha-1", "alpha-2"), (0.0, 60.0), ("rating", "rating"), (5.0, 5.0))
print(retriever.recommend(session, 1).item_ids[0])
assert not {{"tensorflow", "tf_keras", "tensorflow_recommenders"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [item_id("alpha", 3)]
