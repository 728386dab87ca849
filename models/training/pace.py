"""The learning rate, step by step."""

from __future__ import annotations

import math
from typing import Any

from models.training.framework import keras, tf

_RISING_SHARE = 0.1
"""Of the steps, in which the rate rises to its highest."""
_MOST_RISING = 200
_LEAST_RATE = 0.02
"""Of the highest: where the rate begins and where it ends."""


class Pace(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Rises in a line, then falls along a cosine (Loshchilov & Hutter, 2017).

    What it needs to know is held in variables, so that a compiled model can be fitted again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._begin, self._steps, self._rising, self._rate = (
            tf.Variable(value, dtype=tf.float32, trainable=False) for value in (0.0, 1.0, 1.0, 0.0)
        )

    @property
    def variables(self) -> list[Any]:
        """What a checkpoint keeps."""
        return [self._begin, self._steps, self._rising, self._rate]

    def restart(self, begin: int, steps: int, rate: float) -> None:
        """Pace `steps` steps from step `begin` on; `rate`: the highest."""
        self._begin.assign(float(begin))
        self._steps.assign(float(max(1, steps)))
        self._rising.assign(max(1.0, min(_MOST_RISING, _RISING_SHARE * steps)))
        self._rate.assign(rate)

    def __call__(self, step: Any) -> Any:
        """Return the rate of a step."""
        done = tf.cast(step, tf.float32) - self._begin
        rising = tf.minimum(1.0, (done + 1) / self._rising)
        left = tf.clip_by_value((done - self._rising) / self._steps, 0.0, 1.0)
        falling = 0.5 * (1.0 + tf.cos(math.pi * left))
        return self._rate * (_LEAST_RATE + (1 - _LEAST_RATE) * tf.minimum(rising, falling))

    def get_config(self) -> dict[str, Any]:
        """Return nothing: a pace is not loaded again."""
        return {}
