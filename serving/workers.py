"""Several processes of one server: they share its socket, and one that dies is started again."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping

from headrace.errors import HeadraceError
from headrace.local import launch
from headrace.settings import Settings

logger = logging.getLogger(__name__)

_LOOK_S = 0.1
_STOP_WITHIN_S = 2.5
"""A worker finishes what it has begun within two; then it is ended."""
_SOON_S = 5.0
"""A worker that ends within so long of its start could not serve at all."""
_TRIES = 3
"""Such ends in a row after which the server ends: another start would not help."""

Start = Callable[[], "subprocess.Popen[bytes]"]


def run_workers(settings: Settings, listener: socket.socket, environ: Mapping[str, str]) -> None:
    """Run so many workers as the settings say, until SIGTERM or SIGINT.

    The kernel ends them with this process. Raises `HeadraceError` when they cannot start.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with tempfile.TemporaryDirectory(prefix="headrace-metrics-") as folder:
        launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()))
        worker = (sys.executable, "-m", "serving.worker", str(listener.fileno()), folder)

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(  # noqa: S603 - our own command
                (*launcher, *worker),
                stdin=subprocess.DEVNULL,
                env={**environ, **settings.environ()},
                pass_fds=[listener.fileno()],
                # A Ctrl-C is for this process, which ends them in order.
                start_new_session=True,
            )

        Workers(settings.serving.workers, start).run(stopping)


class Workers:
    """Keeps a number of processes running."""

    def __init__(
        self, number: int, start: Start, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` tells seconds."""
        self._start = start
        self._clock = clock
        self._number = number
        self._began: dict[subprocess.Popen[bytes], float] = {}
        self._failures = 0

    def run(self, stopping: threading.Event) -> None:
        """Keep them running until the event is set, then end them. Raises `HeadraceError`."""
        try:
            while not stopping.is_set():
                self._bury()
                while len(self._began) < self._number:
                    self._began[self._start()] = self._clock()
                stopping.wait(_LOOK_S)
        finally:
            self._end()

    def _bury(self) -> None:
        for process, began in list(self._began.items()):
            if process.poll() is None:
                continue
            del self._began[process]
            soon = self._clock() - began < _SOON_S
            self._failures = self._failures + 1 if soon else 0
            logger.error("the worker %d ended with %d", process.pid, process.returncode)
            if self._failures >= _TRIES:
                raise HeadraceError(
                    f"Workers of the server ended {_TRIES} times within {_SOON_S:.0f} s of their "
                    "start; the log says why."
                )

    def _end(self) -> None:
        for process in self._began:
            process.terminate()
        deadline = self._clock() + _STOP_WITHIN_S
        for process in self._began:
            try:
                process.wait(max(0.0, deadline - self._clock()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
