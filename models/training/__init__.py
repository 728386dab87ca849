"""Makes model versions. The only code that imports TensorFlow, which `framework` does for all.

A training is `pipeline.train`; `trainer` is the service that starts one as a process of its own
(`job`) for each retrain event.
"""
