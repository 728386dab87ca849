"""The second stage: reorders the candidates that a retrieval version found.

A version of the kind `ranking` is a folder as any other, with files of its own:

manifest.json     as of every version
ranker.tflite     float32 [CANDIDATES, features] → [CANDIDATES], the higher the better
calibration.json  slope and intercept: log-softmax over the list → probability
items.json        ids of the items that it knows figures of
item_figures.npy  float32 [items, 2]: how popular an item is, and how much so of late
probes.json       made-up lists, and what this version makes of them: `ProbeList`

It reads what any retrieval version says of a candidate, so either can be retrained by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from headrace.errors import ArtifactInvalid
from headrace.versions import Check, Manifest
from models.retrieval.artifact import ITEMS, decode_file, read_array, read_bytes, read_manifest_of
from models.retrieval.calibration import Calibration
from models.retrieval.candidates import CANDIDATE_FEATURES, Candidates
from models.retrieval.recommendations import Recommendations

RANKER = "ranker.tflite"
RANKER_CALIBRATION = "calibration.json"
ITEM_FIGURES = "item_figures.npy"
CANDIDATES = 200
"""Reordered at the most, in one call; those beyond keep their order after them."""
FEATURES = CANDIDATE_FEATURES + 2
"""Of a candidate: what the retriever says of it, and the item's figures."""
_TAKEN, _GIVEN = (CANDIDATES, FEATURES), (CANDIDATES,)
"""Shapes of the model's input and output."""


@dataclass(frozen=True)
class ItemFigures:
    """What is known of items, whoever asks for them."""

    place: dict[str, int]
    values: NDArray[np.float32]
    """`[1 + items, 2]`: the last row is that of an item that is not known."""

    @classmethod
    def of(cls, item_ids: list[str], values: NDArray[np.float32]) -> ItemFigures:
        """Return the figures of these items; `values`: `[items, 2]`."""
        place = {item_id: row for row, item_id in enumerate(item_ids)}
        return cls(place, np.concatenate([values, np.zeros((1, 2), np.float32)]))

    def features(self, found: Candidates) -> NDArray[np.float32]:
        """Return `[n, FEATURES]` of the candidates."""
        rows = [self.place.get(item_id, -1) for item_id in found.items.item_ids]
        return np.concatenate([found.features, self.values[rows]], axis=1)


class Ranker:
    """A loaded version of the kind `ranking`. One thread calls it at a time."""

    def __init__(self, folder: Path, check: Check = lambda *_: None) -> None:
        """Load and check the version in this folder; `check` is asked of its signature first.

        Raises `ArtifactInvalid`.
        """
        self.folder = folder
        self.manifest: Manifest = read_manifest_of(
            folder, (RANKER, RANKER_CALIBRATION, ITEMS, ITEM_FIGURES), check
        )
        if self.manifest.kind != "ranking":
            raise ArtifactInvalid(
                f"Version {folder.name} is of the kind {self.manifest.kind}, and no second stage: "
                "train it under another model's id."
            )
        item_ids: list[str] = decode_file(folder, ITEMS, list[str])
        values = read_array(folder, ITEM_FIGURES)
        if values.dtype != np.float32 or values.shape != (len(item_ids), 2):
            raise ArtifactInvalid(f"Version {folder.name}: {ITEM_FIGURES} is not [items, 2]")
        self._figures = ItemFigures.of(item_ids, values)
        self._calibration: Calibration = decode_file(folder, RANKER_CALIBRATION, Calibration)
        try:
            self.scorer: Scorer = Scorer(read_bytes(folder, RANKER))
            """What reorders, without the figures and the calibration."""
        except (RuntimeError, ValueError) as exc:
            raise ArtifactInvalid(f"Version {folder.name}: {RANKER}: {exc}; train again.") from exc

    @property
    def knows_met_items(self) -> bool:
        """Whether the lists that it learnt from held items that their users had met."""
        return bool(self.manifest.parameters.get("repeats", False))

    def reordered(self, found: Candidates) -> Recommendations:
        """Return the candidates in the second stage's order, with its probabilities.

        Those beyond the first `CANDIDATES` follow in their own order, with no higher scores. Raises
        `FloatingPointError` when it answers with no numbers.
        """
        n = min(len(found.items.item_ids), CANDIDATES)
        if not n:
            return found.items
        logits = self.scorer(self._figures.features(found)[:n])
        if not np.isfinite(logits).all():
            raise FloatingPointError(f"version {self.manifest.version} answers with no numbers")
        order = np.argsort(-logits, kind="stable")
        probabilities = self._calibration(log_softmax(logits[order]))
        tail = np.minimum(found.items.scores[n:], probabilities[-1])
        ordered = found.items.at([*order.tolist(), *range(n, len(found.items.item_ids))])
        scores = [*probabilities.tolist(), *tail.tolist()]
        return Recommendations(ordered.item_ids, scores, ordered.cold)


class Scorer:
    """The ranker as LiteRT runs it: one interpreter, one thread."""

    def __init__(self, model: bytes) -> None:
        """Load a LiteRT model. Raises `ValueError` for one that does not fit this program."""
        self._interpreter: Any = Interpreter(model_content=model, num_threads=1)
        self._interpreter.allocate_tensors()
        (taken,) = self._interpreter.get_input_details()
        (given,) = self._interpreter.get_output_details()
        shapes = tuple(taken["shape"].tolist()), tuple(given["shape"].tolist())
        if shapes != (_TAKEN, _GIVEN):
            raise ValueError(f"it makes {shapes[1]} of {shapes[0]}, not {_GIVEN} of {_TAKEN}")
        self._input, self._output = taken["index"], given["index"]
        self._padded = np.zeros((CANDIDATES, FEATURES), np.float32)

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `[n]` logits of `[n, FEATURES]`, n up to `CANDIDATES`."""
        self._padded[: len(features)] = features
        self._padded[len(features) :] = 0.0
        self._interpreter.set_tensor(self._input, self._padded)
        self._interpreter.invoke()
        logits: NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        return np.array(logits[: len(features)], np.float32)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the logarithms of the `[n]` probabilities that add up to 1."""
    wide = logits.astype(np.float64)
    return np.asarray(wide - np.logaddexp.reduce(wide))
