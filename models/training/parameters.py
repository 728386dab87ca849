"""The hyperparameters of a training, as settings give them."""

from headrace.settings import TrainingSettings as Parameters

__all__ = ["Parameters"]
