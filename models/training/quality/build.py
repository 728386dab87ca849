"""The product's own model for each protocol."""

from __future__ import annotations

from models.training.quality.model import Build


def product_model(data: str) -> Build | None:
    """Return what builds the model of these data, or None where there is none to measure yet.

    TensorFlow is imported when the first model is built, so that baselines need none.
    """
    return None
