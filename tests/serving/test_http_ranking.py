"""A second stage that is live reorders what is recommended, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
from parts import eventually
from serving_tools import RING, V1, ring

from headrace.settings import Settings
from headrace.versions import Manifest
from models.retrieval.artifact import file_digests
from models.retrieval.calibration import Calibration
from models.retrieval.ranker import CANDIDATES, FEATURES

PLACE = 3
"""Of the feature that tells a candidate's place in retrieval's list."""


def last_first(settings: Settings) -> None:
    """Write a version of the kind `ranking` that puts retrieval's last item first."""
    from models.training.framework import tf

    @tf.function(input_signature=[tf.TensorSpec([CANDIDATES, FEATURES], tf.float32)])  # type: ignore[untyped-decorator]
    def rank(features: Any) -> Any:
        return features[:, PLACE]

    folder = Path(settings.artifacts) / "ranking" / V1
    folder.mkdir(parents=True)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([rank.get_concrete_function()])
    (folder / "ranker.tflite").write_bytes(converter.convert())
    np.save(folder / "item_figures.npy", np.zeros((1, 2), np.float32))
    (folder / "items.json").write_bytes(b'["some item"]')
    calibration = Calibration(slope=1.0, intercept=0.0)
    (folder / "calibration.json").write_bytes(msgspec.json.encode(calibration))
    served = Path(settings.artifacts) / "default" / V1 / "manifest.json"
    manifest = msgspec.json.decode(served.read_bytes(), type=Manifest)
    manifest = msgspec.structs.replace(
        manifest, model_id="ranking", kind="ranking", files=file_digests(folder)
    )
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))


async def test_the_live_second_stage_reorders(live: httpx.AsyncClient, settings: Settings) -> None:
    async def listed() -> list[dict[str, Any]]:
        body = {"user_interactions": {ring(1): {"timestamp": 1}}, "k": RING - 1}
        answer = (await live.post("/v1/recommendations", json=body)).json()
        items: list[dict[str, Any]] = answer["recommendations"]
        assert answer["model"] == {"id": "default", "version": V1}
        return items

    before = [each["id"] for each in await listed()]
    last_first(settings)
    response = await live.post(f"/v1/models/ranking/versions/{V1}/activate", json={})
    assert response.status_code == 200, response.text

    async def reordered() -> bool:
        return [each["id"] for each in await listed()] == before[::-1]

    await eventually(reordered, "the second stage reorders")
    scores = [each["score"] for each in await listed()]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
