"""What a choice says: of what a user looked at in a list, the item acted on was the best.

The softmax over the item acted on and those passed over is the conditional logit of McFadden, 1974,
"Conditional logit analysis of qualitative choice behavior". Only what was looked at is compared,
and only within a list, so neither where an item stood nor how often it was shown is learnt as what
it is worth.
"""

from __future__ import annotations

from typing import Any

from models.training.framework import tf

_NEVER = -1e9
"""The logit of what is not there."""


def choice_loss(queries: Any, acted: Any, passed: Any, is_acted: Any, is_passed: Any) -> Any:
    """Return the mean cross-entropy of the items acted on, each among those passed over.

    `queries`: `[n, width]`; `acted`: `[n, a, width]`; `passed`: `[n, p, width]`; `is_acted`: bool
    `[n, a]` and `is_passed`: bool `[n, p]`, whether there is one. Without any the loss is 0.
    """
    positive = tf.einsum("nw,naw->na", queries, acted)
    negative = tf.einsum("nw,npw->np", queries, passed)
    negative = tf.where(is_passed, negative, _NEVER)
    others = tf.reduce_logsumexp(negative, axis=1)[:, None] + tf.zeros_like(positive)
    total = tf.reduce_logsumexp(tf.stack([others, positive]), axis=0)
    weight = tf.cast(is_acted, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(weight * (total - positive)), tf.reduce_sum(weight))
