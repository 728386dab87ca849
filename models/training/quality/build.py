"""The product's own model for each protocol, with parameters chosen on its validation part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.catalog import Item
from headrace.training_settings import TrainingSettings, training_settings
from models.training.quality.model import Build, Model, ProtocolMode

LEAVE_ONE_OUT = TrainingSettings(
    positive_threshold=0.0,
    width=128,
    session_length=200,
    blocks=2,
    temperature=0.07,
    dropout=0.3,
    id_dropout=0.0,
    future=1,
    context=0.0,
    batch_size=60,
    epochs=20,
    patience=20,
    final_epochs=0,
    validation_events=10_000,
    evaluation_events=10_000,
)
"""Long histories of some thousand items: about 12,000 positions a step, as SASRec's full softmax
wants them."""

PERIODS = TrainingSettings(
    positive_threshold=0.0,
    repeats=True,
    session_length=30,
    blocks=2,
    heads=2,
    temperature=0.07,
    dropout=0.5,
    id_dropout=0.0,
    future=3,
    future_decay=0.5,
    context=0.0,
    batch_size=64,
    negatives=4096,
    full_softmax_items=20_000,
    epochs=4,
    patience=4,
    final_epochs=1,
    validation_events=3_000,
    evaluation_events=5_000,
)
"""Short sessions of many items, period after period: all so far, from the last period's weights."""

STREAM = TrainingSettings(positive_threshold=1.0)
"""As the demo retrains; any rating may be the next."""

TUTORIAL = TrainingSettings(
    positive_threshold=1.0, session_length=200, future=20, future_decay=1.0, final_epochs=0
)
"""Sessions are in an order drawn at random, so any of what follows may be what is asked for."""


def product_model(
    protocol: str,
    params: Mapping[str, float],
    catalogue: Sequence[Item] = (),
    mode: ProtocolMode = "protocol",
) -> Build:
    """Return what builds the model of a protocol, with some parameters replaced.

    `protocol`: `leave_one_out`, `periods`, `stream`, `tutorial` or `cold`; `mode`: how it goes from
    one training to the next. TensorFlow is imported
    when the first model is built, so that baselines need none. Raises `InvalidSetting`.
    """
    parameters = training_settings(_PARAMETERS[protocol], params)

    def build(seed: int) -> Model:
        from models.training.quality.product import ProductModel

        return ProductModel(parameters, seed, catalogue=catalogue, mode=mode)

    return build


COLD = TrainingSettings(positive_threshold=1.0)
"""The stream's."""

_PARAMETERS = {
    "cold": COLD,
    "leave_one_out": LEAVE_ONE_OUT,
    "periods": PERIODS,
    "stream": STREAM,
    "tutorial": TUTORIAL,
}
