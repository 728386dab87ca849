"""Second stages of one line, exported as those that are trained are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headrace.versions import MANIFEST, Manifest, TrainingData
from models.retrieval.artifact import file_digests
from models.retrieval.calibration import Calibration
from models.retrieval.candidates import CANDIDATE_FEATURES
from models.retrieval.ranker import CANDIDATES, FEATURES, Ranker
from models.retrieval.ranker_probes import ask_ranker_probes


def exported(rank: Callable[[Any], Any]) -> bytes:
    """Return a LiteRT model of what gives `[CANDIDATES, FEATURES]` their scores."""
    from models.training.framework import tf

    taken = tf.TensorSpec([CANDIDATES, FEATURES], tf.float32)
    function = tf.function(rank, input_signature=[taken]).get_concrete_function()
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())


def write_ranker(folder: Path, model: bytes, fitted_to: float = 1.0) -> Path:
    """Write a version of the kind `ranking` that knows no item, to `<model_id>/<version>/`."""
    folder.mkdir(parents=True)
    (folder / "ranker.tflite").write_bytes(model)
    np.save(folder / "item_figures.npy", np.zeros((1, 2), np.float32))
    (folder / "items.json").write_bytes(b'["some item"]')
    calibration = Calibration(slope=1.0, intercept=0.0)
    (folder / "calibration.json").write_bytes(msgspec.json.encode(calibration))
    data = TrainingData(
        through={}, events=1, users=1, items=1, fingerprint="", from_timestamp=0.0,
        to_timestamp=fitted_to + 1.0, fitted_to=fitted_to,
    )  # fmt: skip
    manifest = Manifest(
        model_id=folder.parent.name, version=folder.name, created_at=0.0, kind="ranking",
        files=file_digests(folder), data=data, parameters={}, metrics={}, packages={},
    )  # fmt: skip
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    chance = np.zeros(CANDIDATE_FEATURES, np.float32), np.ones(CANDIDATE_FEATURES, np.float32)
    probes = ask_ranker_probes(Ranker(folder), [f"i{n}" for n in range(40)], *chance)
    (folder / "probes.json").write_bytes(msgspec.json.encode(probes))
    sum_up(folder)
    return folder


def sum_up(folder: Path) -> None:
    """Have the manifest list what is in the folder."""
    path = folder / MANIFEST
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(
        msgspec.json.encode(msgspec.structs.replace(manifest, files=file_digests(folder)))
    )
