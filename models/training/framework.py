"""TensorFlow, TFRS and Keras 2, imported in one place.

TensorFlow Recommenders is written for Keras 2, which TensorFlow takes from `tf_keras` when
`TF_USE_LEGACY_KERAS` is set before the first import.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
# Warnings of CUDA not found and of oneDNN are of no use to an operator.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
import tensorflow_recommenders as tfrs

keras = tf.keras

# Keras warns that a model which TensorFlow itself saves cannot be loaded as Keras's own.
tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "tf", "tfrs"]
