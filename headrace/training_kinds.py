"""What can be trained, and within which limits it can be asked for.

A model has versions of one kind. Everything that asks for a training checks it against this table:
HTTP, the command line, the schedule and the `retrain` topic.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["retrieval", "items", "ranking"]
Mode = Literal["incremental", "full"]

ALGORITHMS: dict[Kind, tuple[str, ...]] = {
    "retrieval": ("transformer",),
    "items": ("two-tower",),
    "ranking": ("mlp",),
}
"""By kind, the algorithms there are; the first is the default.

`retrieval`: session and candidate towers, a transformer over the session (SASRec).
`items`: item-to-item towers, trained on pairs of items from the same sessions; serves `similar`.
`ranking`: a multilayer perceptron that reorders the retrieved candidates.
"""
KINDS: tuple[Kind, ...] = tuple(ALGORITHMS)
MODES: tuple[Mode, ...] = ("incremental", "full")

EPOCHS = (1, 1_000)
LEARNING_RATE = (0.0001, 0.01)
TRAIN_SPLIT_RATIO = (0.5, 0.99)
SEED = (0, 2**31 - 1)
"""Least and most, both allowed."""
