"""Parts of Headrace as real processes, and waiting for what they do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import forked
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from redis import Redis
from redis.exceptions import RedisError

from headrace.local import launch
from headrace.local.apache import find_apache
from headrace.local.ports import claim_port
from headrace.settings import Settings

PATIENCE_S = 60.0
"""Only there against hanging: nothing is measured by it."""


class Part(AbstractContextManager["Part"]):
    """`headrace <command and options>` in a process that is ended on leaving, and with this one."""

    def __init__(
        self, command: str, settings: Settings, folder: Path, *, faults: Sequence[str] = ()
    ) -> None:
        """`faults` are those of `faulty_part` that it has from its next start on."""
        self.faults = faults
        self._command = command
        self._settings = settings
        self._log = folder / f"{command}.log"
        self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(signal.SIGKILL)
        if exc is not None:
            print(f"--- {self._command}:\n{self.log()[-6_000:]}")

    def start(self) -> None:
        """Start the process; its output is appended to the log."""
        self._process = forked.start(
            self._command.split(),
            {**os.environ, **self._settings.environ()},
            output=self._log,
            folder=self._log.parent,
            faults=self.faults,
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.runs:
            os.kill(self.pid, number)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; return the exit status."""
        self.signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the process to end by itself; return the exit status."""
        self._process.join(PATIENCE_S)
        status = self.status
        assert status is not None, f"{self._command} has not ended"
        return status

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self.status is None

    @property
    def status(self) -> int | None:
        """The exit status, or None while the process runs."""
        return self._process.exitcode

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None
        return self._process.pid

    def log(self) -> str:
        """What the process has logged, over all its starts."""
        return self._log.read_text(errors="replace")


async def eventually(holds: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not await holds():
        assert time.monotonic() < deadline, f"not in {PATIENCE_S:.0f} s: {what}"
        await asyncio.sleep(0.05)


class OwnRedis(AbstractContextManager["OwnRedis"]):
    """A Redis of a test's own, to be stopped and started; it keeps its data and its port."""

    def __init__(self, command: tuple[str, ...], port: int, folder: Path) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self.folder = folder
        self._command = command
        self.start()

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGCONT)
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()))
        self._process = subprocess.Popen(
            (*launcher, *self._command), cwd=self.folder, env={}, stdout=subprocess.DEVNULL
        )
        client = Redis.from_url(self.url)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                client.ping()
                break
            except RedisError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        client.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End it; what it has is on disk then."""
        self._process.terminate()
        self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it at once, whatever it is in the middle of."""
        self._process.kill()
        self._process.wait(PATIENCE_S)


class OwnKafka(AbstractContextManager["OwnKafka"]):
    """A node of Apache Kafka, to be ended and started; it keeps its topics and its port.

    Without Java or the jars that `make kafka` fetches it raises `StackError`, which tells the cure.
    """

    def __init__(self, folder: Path) -> None:
        port = claim_port(0, host="127.0.0.1", use="the tests' Kafka", option="")
        self.address = f"127.0.0.1:{port}"
        self._command = find_apache(os.environ).command(port, folder / "kafka")
        self._log = folder / "kafka.log"
        self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._launch()
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert time.monotonic() < deadline, f"Kafka does not answer:\n{self.log()[-6_000:]}"
            # Its port may be in use for a moment, as the other end of a connection.
            if self._process.poll() is not None:
                self._launch()
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask it to end and wait for that: it closes its logs."""
        self.signal(signal.SIGTERM)
        self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it at once, whatever it is in the middle of."""
        self.signal(signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def log(self) -> str:
        """What it has logged, over all its starts."""
        return self._log.read_text(errors="replace")

    def _launch(self) -> None:
        launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()))
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                (*launcher, *self._command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._log.parent,
                env={},
            )

    def _answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        try:
            # A client's own tries are far apart.
            socket.create_connection((host, int(port)), timeout=1).close()
            admin = KafkaAdminClient(bootstrap_servers=self.address, bootstrap_timeout_ms=5_000)
        except (OSError, KafkaError):
            return False
        try:
            admin.list_topics()
        except KafkaError:
            return False
        finally:
            admin.close()
        return True
