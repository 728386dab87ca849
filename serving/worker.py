"""One process of a server that has several.

Run by `serving.workers`: `python -m serving.worker SOCKET FOLDER`, with the settings in the
environment. The socket listens, and is inherited; the folder is the one for metrics.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from headrace.logs import configure_logging
from headrace.settings_source import load_settings
from serving.main import serve_on
from serving.worker_metrics import WorkerMetrics


def main(descriptor: str, folder: str) -> None:
    """Serve until SIGTERM."""
    settings = load_settings(os.environ)
    configure_logging(settings)
    listener = socket.socket(fileno=int(descriptor))
    serve_on(settings, listener, WorkerMetrics(Path(folder), os.getpid()))


if __name__ == "__main__":
    main(*sys.argv[1:])
