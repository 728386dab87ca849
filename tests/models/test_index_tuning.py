"""The index that is shipped finds what an exact search finds, or none is shipped."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from toy import TOY, toy_columns, toy_items

from headrace.training_settings import TrainingSettings
from models.retrieval import Retriever, ScannIndex, load_artifact
from models.retrieval.index import SETTINGS, count_leaves

ITEMS, WIDTH = 4_000, 16
NONE = np.array([], np.int64)


def clustered() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(40, WIDTH))
    return (centres[rng.integers(0, 40, ITEMS)] + rng.normal(size=(ITEMS, WIDTH))).astype("f4")


def recall(index: ScannIndex, vectors: np.ndarray, queries: np.ndarray) -> float:
    hits = 0
    found = index.search_many(queries, 10, [NONE] * len(queries))
    for query, (positions, _) in zip(queries, found, strict=True):
        best = np.argsort(-(vectors @ query), kind="stable")[:10]
        hits += len(set(best.tolist()) & set(positions.tolist()))
    return hits / (10 * len(queries))


def test_the_settings_chosen_find_enough_and_cheaper_ones_do_not(tmp_path: Path) -> None:
    from models.training.index_tuning import LEAST_RECALL, tune

    vectors = clustered()
    rng = np.random.default_rng(1)
    queries = (vectors[rng.integers(0, ITEMS, 200)] + rng.normal(size=(200, WIDTH))).astype("f4")
    index = ScannIndex.build(vectors)
    tuning = tune(index, vectors, queries)
    assert tuning.suffices
    assert index.settings == tuning.settings
    assert tuning.recall == pytest.approx(recall(index, vectors, queries), abs=1e-3)
    assert tuning.recall >= LEAST_RECALL
    assert 0 < tuning.settings.leaves <= count_leaves(ITEMS)
    assert tuning.leaves_share < 1
    # They are those of the index that is written and loaded.
    index.save(tmp_path)
    loaded = ScannIndex.load(tmp_path, ITEMS)
    assert loaded.settings == tuning.settings
    assert recall(loaded, vectors, queries) >= LEAST_RECALL
    # Half the leaves do not find as much, so these were the fewest tried.
    loaded.settings = type(loaded.settings)(max(1, tuning.settings.leaves // 2), 1_000)
    assert recall(loaded, vectors, queries) < 0.995


def test_an_index_that_does_not_find_enough_is_not_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from models.training.export import write_index

    # What queries ask for is lost in coordinates a thousand times as wide when it is quantised, so
    # that the candidates scored again are as good as drawn by chance.
    rng = np.random.default_rng(2)
    vectors = (rng.normal(size=(ITEMS, WIDTH)) * ([1_000.0] * (WIDTH - 1) + [1.0])).astype("f4")
    queries = np.tile(np.eye(WIDTH, dtype="f4")[-1], (20, 1))
    with caplog.at_level(logging.WARNING):
        figures, notes = write_index(vectors, queries, tmp_path / "index")
    assert not (tmp_path / "index").exists()
    assert figures["indexed"] == 0
    assert figures["index_recall_at_10"] < 0.99
    assert "No ScaNN index" in notes[0]
    assert notes[0] in caplog.text


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of the toy stream that carries an index of its 24 items."""
    from models.training.pipeline import train

    fields = {name: getattr(TOY, name) for name in TOY.__struct_fields__}
    parameters = TrainingSettings(**{**fields, "scann_from_items": 1, "epochs": 1, "min_steps": 50})
    artifacts = tmp_path_factory.mktemp("indexed")
    train(toy_columns(), toy_items(), parameters, artifacts, "toy", "v1", lambda *_, **__: None)
    return artifacts / "toy" / "v1"


def test_a_version_says_how_its_index_was_chosen(indexed: Path) -> None:
    artifact = load_artifact(indexed)
    metrics = artifact.manifest.metrics
    assert (artifact.has_index, metrics["indexed"]) == (True, 1)
    assert metrics["index_recall_at_10"] >= 0.99
    assert 0 < metrics["index_leaves_share"] <= 1
    assert isinstance(Retriever(artifact)._index, ScannIndex)


def test_settings_that_are_none_are_refused(indexed: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(indexed / "index", tmp_path / "index"))
    (folder / SETTINGS).write_text('{"leaves": 0}')
    with pytest.raises(ValueError, match=SETTINGS):
        ScannIndex.load(folder, 24)
