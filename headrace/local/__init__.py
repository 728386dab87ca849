"""The local stack: an embedded broker, Redis, a worker, the trainer and the server, kept running.

`stack.LocalStack` is the stack, as the command line, the demo and the end-to-end tests use it.
`stack.default_parts` says which processes it is made of; `supervisor` starts them in the order of
their needs, restarts what dies and ends all of them; `launch` sees to it that none outlives it.
"""

from pathlib import Path

DEFAULT_DATA = Path(".headrace")
"""The stack's folder, where none is named."""
