"""What every part of Headrace speaks of: events, sessions, the catalogue, versions, tasks.

The way of an event: a producer → Kafka (`topics`, `events`) → a Faust agent (`streams`) → the
user's session dictionary in Redis (`sessions`). The way of a request: HTTP (`serving`) → the
session → the query tower and the item index (`models.retrieval`) → an answer. The way of a model:
a retrain event → a task (`tasks`) → training on the replayed log (`models.training`) → a version
(`versions`) → swapped in live (`serving`).

This package imports none of the others, except inside the commands of `headrace.cli`.
"""

__version__ = "0.1.0"
