"""The hyperparameters of a training, as settings give them."""

from headrace.training_settings import TrainingSettings as Parameters

__all__ = ["Parameters"]
