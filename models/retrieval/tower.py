"""The two towers as LiteRT runs them: one interpreter each, one thread.

An interpreter owns its buffers, so a tower serves one thread at a time; `Retriever` sees to that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray


class QueryTower:
    """A session's item vectors and features in, one query vector out."""

    def __init__(self, model: bytes) -> None:
        """Load a LiteRT model. Raises `ValueError` for bytes that are not one."""
        self._interpreter = _interpreter(model)
        inputs = _by_name(self._interpreter.get_input_details())
        self._vectors, self._features, self._length = (
            inputs[name]["index"] for name in ("vectors", "features", "length")
        )
        self._query = self._interpreter.get_output_details()[0]["index"]
        _, self.session_length, self.width = (int(n) for n in inputs["vectors"]["shape"])
        self.features = int(inputs["features"]["shape"][2])

    def __call__(
        self,
        vectors: NDArray[np.float32],
        features: NDArray[np.float32],
        lengths: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        """Return the query vectors `[n, width]` of n sessions, each oldest first, ending last.

        `vectors`: `[n, session_length, width]`, the item vectors; `features`:
        `[n, session_length, INTERACTION_FEATURES]`; `lengths`: `[n]`, 1 to `session_length`; before
        them is padding. Raises `FloatingPointError` when a vector is not of numbers, and whatever
        LiteRT does.
        """
        interpreter = self._interpreter
        queries = np.empty((len(vectors), self.width), np.float32)
        for row in range(len(vectors)):
            interpreter.set_tensor(self._vectors, vectors[row : row + 1])
            interpreter.set_tensor(self._features, features[row : row + 1])
            interpreter.set_tensor(self._length, lengths[row : row + 1])
            interpreter.invoke()
            queries[row] = interpreter.get_tensor(self._query)[0]
        if not np.isfinite(queries).all():
            raise FloatingPointError("the query tower's answer is not of numbers")
        return queries


class CandidateTower:
    """Items' features in, vectors out: of items that came after the training."""

    def __init__(self, model: bytes) -> None:
        """Load a LiteRT model. Raises `ValueError` for bytes that are not one."""
        self._interpreter = _interpreter(model)
        (details,) = self._interpreter.get_input_details()
        self._features = details["index"]
        self._vectors = self._interpreter.get_output_details()[0]["index"]
        self._batch, self.slots = (int(n) for n in details["shape"])

    def __call__(self, features: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return `[n, width]` item vectors of `[n, SLOTS]` hashed features."""
        parts = [
            self._run(features[first : first + self._batch])
            for first in range(0, len(features), self._batch)
        ]
        return np.concatenate(parts)

    def _run(self, features: NDArray[np.int32]) -> NDArray[np.float32]:
        padded = np.zeros((self._batch, self.slots), np.int32)
        padded[: len(features)] = features
        self._interpreter.set_tensor(self._features, padded)
        self._interpreter.invoke()
        vectors: NDArray[np.float32] = self._interpreter.get_tensor(self._vectors)
        return vectors[: len(features)]


def _interpreter(model: bytes) -> Any:
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _by_name(details: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Key a converted signature's inputs `serving_default_<name>:0` by `<name>`."""
    return {
        entry["name"].removeprefix("serving_default_").partition(":")[0]: entry for entry in details
    }
