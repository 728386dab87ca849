"""TensorFlow, TFRS and Keras 2, imported in one place.

TensorFlow Recommenders is written for Keras 2, which TensorFlow takes from `tf_keras` when
`TF_USE_LEGACY_KERAS` is set before the first import.
"""

from __future__ import annotations

import os

from models.training.resources import has_gpu

os.environ["TF_USE_LEGACY_KERAS"] = "1"
# Warnings of CUDA not found and of oneDNN are of no use to an operator, nor, where there is no GPU,
# is the error that CUDA cannot be had; what makes a training fail is raised as well.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if has_gpu() else "3")

import tensorflow as tf
import tensorflow_recommenders as tfrs

keras = tf.keras

# Keras warns that a model which TensorFlow itself saves cannot be loaded as Keras's own.
tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "tf", "tfrs"]
