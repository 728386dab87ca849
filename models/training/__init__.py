"""Training: the log of events in, a model version out. The only code that imports TensorFlow."""
