"""The SavedModel beside what serving computes from the same version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from toy import RING, TOY, WORLDS, item_id, toy_columns, toy_items

from headrace.sessions import Session
from models.retrieval import Artifact, Retriever, load_artifact
from models.retrieval.calibration import Calibration

# The towers stay as the hold-out judged them, and have learnt so little that lists are often wrong.
RULED = msgspec.structs.replace(
    TOY, rules_share=0.6, train_split_ratio=0.6, epochs=1, min_steps=40, final_epochs=0
)
COLUMNS = toy_columns()
LOGISTIC = Calibration(slope=1.0, intercept=0.0)
"""With it `logits` finds the scores themselves."""


@pytest.fixture(scope="module")
def ruled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version in whose scores the rules have a share."""
    from models.training.pipeline import train

    artifacts = tmp_path_factory.mktemp("ruled")
    train(COLUMNS, toy_items(), RULED, artifacts, "toy", "v1", lambda *_, **__: None)
    return artifacts / "toy" / "v1"


@pytest.fixture(scope="module")
def ruled_artifact(ruled_folder: Path) -> Artifact:
    return load_artifact(ruled_folder)


@pytest.fixture(scope="module")
def towers_calibration(ruled_artifact: Artifact) -> Calibration:
    """Fitted to the lists that the version's towers give before each event held out."""
    from models.training.calibration import fit_calibration

    towers = towers_alone(ruled_artifact, LOGISTIC)
    scores, labels = [], []
    for user in range(len(COLUMNS.user_ids)):
        events = np.flatnonzero(COLUMNS.user == user)
        for at in np.flatnonzero(events >= len(COLUMNS) * RULED.train_split_ratio):
            session = session_of(events[:at])
            found = towers.recommend(session, 10, exclude=session.item_ids)
            assert found is not None
            coming = {COLUMNS.item_ids[item] for item in COLUMNS.item[events[at : at + 10]]}
            scores += logits(found.scores).tolist()
            labels += [listed in coming for listed in found.item_ids]
    return fit_calibration(np.array(scores, np.float32), np.array(labels))


def towers_alone(artifact: Artifact, calibration: Calibration) -> Retriever:
    blend = msgspec.structs.replace(artifact.blend, rules=0.0)
    return Retriever(replace(artifact, blend=blend, calibration=calibration))


def session_of(events: NDArray[np.int64]) -> Session:
    """The session of these events of the toy stream."""
    return Session(
        item_ids=tuple(COLUMNS.item_ids[item] for item in COLUMNS.item[events]),
        timestamps=tuple(COLUMNS.timestamp[events].tolist()),
        kinds=("rating",) * len(events),
        ratings=tuple(COLUMNS.rating[events].tolist()),
    )


def logits(probabilities: Any) -> NDArray[np.float64]:
    found = np.asarray(probabilities, np.float64)
    return np.asarray(np.log(found / (1 - found)))


def test_scores_are_calibrated_for_the_towers_alone(
    ruled_folder: Path, ruled_artifact: Artifact, towers_calibration: Calibration
) -> None:
    import tensorflow as tf

    assert ruled_artifact.blend.rules == 0.6
    signature = tf.saved_model.load(str(ruled_folder / "savedmodel")).signatures["session"]
    session = session_of(np.flatnonzero(COLUMNS.user == 0)[:4])
    answer = signature(**as_tensors([session]))
    towers = towers_alone(ruled_artifact, LOGISTIC)
    found = towers.recommend(session, 10, exclude=session.item_ids)
    assert found is not None
    assert answer["item_ids"].numpy()[0, :10].astype(str).tolist() == found.item_ids
    expected = towers_calibration(logits(found.scores))
    np.testing.assert_allclose(answer["scores"].numpy()[0, :10], expected, atol=1e-4)
    of_the_blend = ruled_artifact.calibration(logits(found.scores))
    assert np.abs(of_the_blend - expected).max() > 0.05


def test_a_thousand_sessions_have_the_same_query_vectors_in_litert_and_tensorflow(
    ruled_folder: Path, ruled_artifact: Artifact, towers_calibration: Calibration
) -> None:
    """From session dictionaries to the scores of towers alone, which are all a SavedModel holds."""
    import tensorflow as tf

    retriever = towers_alone(ruled_artifact, towers_calibration)
    signature = tf.saved_model.load(str(ruled_folder / "savedmodel")).signatures["session"]
    rng = np.random.default_rng(5)
    sessions = [drawn_session(rng) for _ in range(1_000)]
    answer = signature(**as_tensors(sessions))
    listed, scores = answer["item_ids"].numpy().astype(str), answer["scores"].numpy()
    for session, ids, expected in zip(sessions, listed, scores, strict=True):
        found = retriever.recommend(session, 2 * RING, exclude=session.item_ids)
        assert found is not None
        of_id = dict(zip(found.item_ids, found.scores, strict=True))
        left = len(of_id)
        assert set(ids[:left]) == set(of_id)
        np.testing.assert_allclose([of_id[at] for at in ids[:left]], expected[:left], atol=2e-5)
        assert not expected[left:].any()


def drawn_session(rng: np.random.Generator) -> Session:
    """Items of the toy worlds, and now and then one that no model knows, in any way met."""
    known = [item_id(world, number) for world in WORLDS for number in range(RING)]
    length = int(rng.integers(1, 14))
    item_ids = rng.choice([*known, "nobody's", "nothing"], length, replace=False).tolist()
    if not set(item_ids) & set(known):
        item_ids[0] = known[0]
    kinds = rng.choice(["click", "purchase", "rating"], length).tolist()
    return Session(
        item_ids=tuple(item_ids),
        timestamps=tuple(1_700_000_000.0 + np.cumsum(4 ** rng.uniform(-2, 9, length))),
        kinds=tuple(kinds),
        ratings=tuple(float(rng.integers(1, 6)) if rng.random() < 0.7 else None for _ in kinds),
    )


def as_tensors(sessions: list[Session]) -> dict[str, Any]:
    """The sessions as the signature takes them, padded at the end."""
    import tensorflow as tf

    most = max(len(session.item_ids) for session in sessions)

    def padded(rows: list[tuple[Any, ...]], filler: Any, dtype: Any) -> Any:
        return tf.constant([[*row, *[filler] * (most - len(row))] for row in rows], dtype)

    rated = [tuple(np.nan if r is None else r for r in session.ratings) for session in sessions]
    return {
        "item_ids": padded([session.item_ids for session in sessions], "", tf.string),
        "kinds": padded([session.kinds for session in sessions], "", tf.string),
        "ratings": padded(rated, np.nan, tf.float32),
        "timestamps": padded([session.timestamps for session in sessions], 0.0, tf.float64),
    }


def test_the_saved_model_needs_tensorflow_alone(toy_folder: Path, tmp_path: Path) -> None:
    program = f"""
import json, sys, tensorflow as tf
loaded = tf.saved_model.load({str(toy_folder / "savedmodel")!r})
signatures = loaded.signatures
takes = {{name: sorted(each.structured_input_signature[1]) for name, each in signatures.items()}}
by_items = signatures["serving_default"](
    item_ids=tf.constant([["", "alpha-1", "alpha-2"], ["nobody's", "", ""]]))
by_strings = signatures["query"](sessions=tf.constant(["alpha-1\\nalpha-2", "nobody's", ""]))
assert not {{"tensorflow_recommenders", "scann", "headrace", "models"}} & set(sys.modules)
shown = lambda answer: [answer["item_ids"].numpy().astype(str).tolist(),
                        answer["scores"].numpy().tolist()]
print(json.dumps([takes, shown(by_items), shown(by_strings)]))
"""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environ
    )
    assert done.returncode == 0, done.stderr
    takes, (ids, scores), (ids_of_strings, scores_of_strings) = json.loads(done.stdout)
    assert takes == {
        "serving_default": ["item_ids"],
        "session": ["item_ids", "kinds", "ratings", "timestamps"],
        "query": ["sessions"],
    }
    assert ids[0][0] == item_id("alpha", 3)
    assert 0.3 < scores[0][0] <= 1
    assert len(ids[0]) == 2 * RING
    assert not {"alpha-1", "alpha-2"} & set(ids[0])
    assert ids[0][-2:] == ["", ""]
    assert scores[1] == [0.0] * 2 * RING
    assert ids_of_strings[:2] == ids
    np.testing.assert_allclose(scores_of_strings, [*scores, scores[1]], rtol=1e-5)
