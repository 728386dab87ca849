"""One training on several machines: each batch is shared out over them, each has all weights.

Every process runs the same training on the same events (SPMD), under TensorFlow's
`MultiWorkerMirroredStrategy`, which adds the gradients of all replicas up. What only one can say,
be it measured, random or read from a disk of its own, is the chief's: it is sent to the others.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.errors import HeadraceError
from models.training.framework import tf

_Array = TypeVar("_Array", bound=NDArray[Any])
FORM_WITHIN_S = 300.0
"""Longest wait for the other processes of a cluster."""


@dataclass(frozen=True)
class Cluster:
    """The processes of one training, seen from one of them."""

    strategy: Any = None
    """A `tf.distribute.Strategy` of several processes; None: there is but this one."""
    is_chief: bool = True

    @property
    def replicas(self) -> int:
        """How many parts a batch has."""
        return 1 if self.strategy is None else int(self.strategy.num_replicas_in_sync)

    def scope(self) -> AbstractContextManager[object]:
        """Return in what a model is built, compiled and fitted."""
        strategy = tf.distribute.get_strategy() if self.strategy is None else self.strategy
        scope: AbstractContextManager[object] = strategy.scope()
        return scope

    def check_batch(self, rows: int) -> None:
        """Raise `HeadraceError` for a batch that cannot be shared out evenly."""
        if rows % self.replicas:
            raise HeadraceError(
                f"A batch of {rows} rows cannot be shared out evenly over {self.replicas} "
                "replicas; choose HEADRACE_TRAINING_BATCH_SIZE so that it can."
            )

    def share_out(self, batches: Any) -> Any:
        """Return of each batch of a dataset what this process has of it, replica by replica.

        In each part stand `share` and, where there are choices, `choices_share`: what of the
        batch's weight lies in it, so that the parts' losses add up to the loss of the whole.
        """
        if self.strategy is None:
            return batches

        def parts(context: Any) -> Any:
            local = self.replicas // context.num_input_pipelines
            own = slice(context.input_pipeline_id * local, (context.input_pipeline_id + 1) * local)
            return batches.map(lambda batch: _parts(batch, self.replicas, own)).unbatch()

        return self.strategy.distribute_datasets_from_function(parts)

    def from_chief(self, value: _Array) -> _Array:
        """Return the chief's value, on every process; it is an array of the same shape on all."""
        if self.strategy is None:
            return value
        value = np.asarray(value)  # type: ignore[assignment]

        def own(context: Any) -> Any:
            is_first = context.replica_id_in_sync_group == 0
            return tf.constant(value if is_first else np.zeros_like(value))

        spread = self.strategy.experimental_distribute_values_from_function(own)
        found = self.strategy.reduce(tf.distribute.ReduceOp.SUM, spread, axis=None)
        sent: _Array = found.numpy()
        return sent

    def check_same(self, digest: str) -> None:
        """Raise `HeadraceError` on all processes when one has read other events than the chief.

        `digest`: hexadecimal, of what this process has read.
        """
        own = np.frombuffer(bytes.fromhex(digest), np.uint8).astype(np.int64)
        differs = np.array([int((self.from_chief(own) != own).any())])
        if self._sum(differs).any():
            raise HeadraceError(
                "The processes of the training have read different events: somebody was erased, "
                "or a topic was made anew, while they read. Ask again."
            )

    def wait(self) -> None:
        """Wait until every process has come here."""
        self._sum(np.zeros(1, np.int64))

    def _sum(self, value: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.strategy is None:
            return value
        spread = self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(value)
        )
        found = self.strategy.reduce(tf.distribute.ReduceOp.SUM, spread, axis=None)
        summed: NDArray[np.int64] = found.numpy()
        return summed


ALONE = Cluster()


def join_cluster(*, is_chief: bool) -> Cluster:
    """Return the cluster that TF_CONFIG names, once all of its processes are there.

    TensorFlow wants this before anything else is asked of it. Ends the process when the others do
    not come.
    """
    timer = threading.Timer(FORM_WITHIN_S, _give_up)
    timer.daemon = True
    timer.start()
    try:
        return Cluster(tf.distribute.MultiWorkerMirroredStrategy(), is_chief)
    finally:
        timer.cancel()


def _give_up() -> None:
    sys.stderr.write(
        f"Not all processes that TF_CONFIG names came within {FORM_WITHIN_S:.0f} s. Does "
        "`headrace trainer --distributed` run on each of them, and can they reach each other?\n"
    )
    sys.stderr.flush()
    os._exit(os.EX_UNAVAILABLE)


def _parts(batch: dict[str, Any], count: int, own: slice) -> dict[str, Any]:
    """Return `[own parts, rows, ...]` of a batch of `[count * rows, ...]`."""
    parts = {
        name: tf.reshape(value, [count, -1, *value.shape[1:]]) for name, value in batch.items()
    }
    parts["share"] = _share(parts["weights"])
    if "acted" in parts:
        parts["choices_share"] = _share(tf.cast(parts["acted"] > 0, tf.float32))
    return {name: value[own] for name, value in parts.items()}


def _share(weights: Any) -> Any:
    """Return `[count]`: of all weight what lies in each part."""
    by_part = tf.reduce_sum(weights, axis=list(range(1, len(weights.shape))))
    return tf.math.divide_no_nan(by_part, tf.reduce_sum(by_part))
