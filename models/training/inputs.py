"""Batches for the training steps: a `tf.data` pipeline that gathers rows of positions in C++.

Once an epoch NumPy cuts and packs windows; from there on no Python runs between two steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from models.training.choices import NO_CHOICES, Choices
from models.training.dataset import Histories, Rows, rows_of, targets_of, windows
from models.training.framework import tf
from models.training.parameters import Parameters


class Inputs:
    """The histories as tensors, and the batches of an epoch made of them."""

    def __init__(
        self,
        data: Histories,
        parameters: Parameters,
        choices: Choices = NO_CHOICES,
        since: int = 0,
    ) -> None:
        """`choices`: of users among these histories, from the lists they were served.

        Events before the `since`-th of the log are context, not examples.
        """
        self._data = data
        self._parameters = parameters
        self._since = since
        self._gather = _gather(data, parameters, choices)
        context = int(parameters.context * parameters.session_length)
        self._context = min(context, parameters.session_length - 1)

    @property
    def positions_a_step(self) -> int:
        """Places of a batch, padding included: hardly any."""
        return self._parameters.batch_size * self._parameters.session_length

    def epoch(self, rng: np.random.Generator, least_steps: int = 1) -> tuple[Any, int]:
        """Return a dataset of batches and their number, at least so many.

        Every example is in it once, or as often as `least_steps` takes. A batch holds `items`
        int32 `[rows, length]`; `features` float32 `[rows, length, INTERACTION_FEATURES]`;
        `segment` int32 `[rows, length]`, 0 for padding; `targets` int32 and `weights` float32
        `[rows, length, future]`. With choices there are int32 `acted` `[rows, length, ACTED]` and
        `passed` `[rows, length, PASSED]`, 0 for none: of the position's session, when it is one.
        """
        size = self._parameters.batch_size
        parts = [self._rows(rng)]
        passes = -(-least_steps * size // len(parts[0]))
        parts += [self._rows(rng) for _ in range(passes - 1)]
        columns = [
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("position", "segment", "fresh")
        ]
        steps = max(1, round(len(columns[0]) / size))
        # Filled up with rows from the start, or cut: a batch of another shape compiles anew.
        columns = [np.resize(column, (steps * size, *column.shape[1:])) for column in columns]
        batches = tf.data.Dataset.from_tensor_slices(tuple(columns)).batch(
            size, drop_remainder=True
        )
        batches = batches.map(self._gather, num_parallel_calls=1, deterministic=True)
        return batches.prefetch(2), steps

    def _rows(self, rng: np.random.Generator) -> Rows:
        length = self._parameters.session_length
        cut = windows(self._data, length, self._context, rng, self._since)
        return rows_of(cut, length, rng)


def _gather(
    data: Histories, parameters: Parameters, choices: Choices
) -> Callable[[Any, Any, Any], dict[str, Any]]:
    """Return the function from rows of positions to a batch."""
    targets = targets_of(data)
    item, features = tf.constant(data.item), tf.constant(data.features)
    first = tf.constant(data.first.astype(np.int32))
    target, following = tf.constant(targets.position), tf.constant(targets.following)
    future = tf.range(parameters.future)
    decay = tf.constant(parameters.future_decay ** np.arange(parameters.future), tf.float32)
    last = len(targets.position) - 1
    choose = _choose(data, choices) if len(choices) else None

    def gather(position: Any, segment: Any, fresh: Any) -> dict[str, Any]:
        there = segment > 0
        nth = tf.gather(following, position)[:, :, None] + future
        at = tf.gather(target, tf.minimum(nth, last))
        same_user = tf.gather(first, at) == tf.gather(first, position)[:, :, None]
        wanted = same_user & (nth <= last) & fresh[:, :, None]
        weights = tf.where(wanted, decay, 0.0)
        total = tf.reduce_sum(weights, axis=2, keepdims=True)
        chosen = {} if choose is None else choose(tf.where(fresh, position, -1))
        return {
            **chosen,
            "items": tf.where(there, tf.gather(item, position), 0),
            "features": tf.where(there[:, :, None], tf.gather(features, position), 0.0),
            "segment": segment,
            "targets": tf.where(wanted, tf.gather(item, at), 0),
            "weights": tf.math.divide_no_nan(weights, total),
        }

    return gather


def _choose(data: Histories, choices: Choices) -> Callable[[Any], dict[str, Any]]:
    """Return the function from positions, -1 for none, to what was chosen from there."""
    position_of = np.empty(len(data), np.int64)
    position_of[data.event] = np.arange(len(data))
    # Of a position by its number + 1; the first row is that of all without a choice.
    choice = np.zeros(len(data) + 1, np.int32)
    choice[position_of[choices.event] + 1] = np.arange(1, len(choices) + 1)
    number = tf.constant(choice)
    acted, passed = (
        tf.constant(np.pad(items, [(1, 0), (0, 0)])) for items in (choices.acted, choices.passed)
    )

    def choose(position: Any) -> dict[str, Any]:
        row = tf.gather(number, position + 1)
        return {"acted": tf.gather(acted, row), "passed": tf.gather(passed, row)}

    return choose
