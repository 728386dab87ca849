"""The demo: real ratings through the whole system, and the figures that it reaches.

`main` reads as its steps. `feed` sends the first 80 % to Kafka, `prequential` the rest over HTTP,
each event after asking for its user's recommendations. `baselines` are what the model is
measured against, `oracle` what the sessions are. `figures` gathers, `display` shows, `summary` and
`report` tell in the end.
"""

from headrace.local.demo.main import DemoOptions, run_demo

__all__ = ["DemoOptions", "run_demo"]
