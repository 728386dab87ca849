"""Whether there is enough to train on; known before TensorFlow is there."""

from __future__ import annotations

from headrace.errors import TooFewEvents
from headrace.events import EventColumns
from models.training.dataset import histories
from models.training.parameters import Parameters


def check_events(columns: EventColumns, parameters: Parameters) -> None:
    """Raise `TooFewEvents`, which says how many there are and how many are needed."""
    if len(columns) < parameters.min_events:
        raise TooFewEvents(
            f"There are {len(columns):,} events; a training needs {parameters.min_events:,}. "
            "Send more, or lower HEADRACE_TRAINING_MIN_EVENTS."
        )
    targets = int(histories(columns, parameters).is_target.sum())
    if targets < 2:
        raise TooFewEvents(
            f"{targets} of {len(columns):,} events are positive; a training needs 2 at the least. "
            "Send more, or lower HEADRACE_TRAINING_POSITIVE_THRESHOLD, which is "
            f"{parameters.positive_threshold:g}."
        )
