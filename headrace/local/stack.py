"""The local stack: everything that Headrace is made of, on one machine, under one supervisor."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import msgspec

from headrace.errors import StackError
from headrace.local import DEFAULT_DATA, readiness
from headrace.local.apache import STOP_WITHIN_S, VERSION, find_apache
from headrace.local.binaries import broker_command, find_broker, find_redis, redis_command
from headrace.local.console import console_part, is_installed
from headrace.local.folder import DataFolder, StackState
from headrace.local.keeper import RestartPolicy
from headrace.local.parts import Check, Part, PartStatus
from headrace.local.ports import claim_port
from headrace.local.supervisor import Supervisor
from headrace.setting_variables import PREFIX, variable_of
from headrace.settings import Settings, WorkerSettings
from headrace.settings_source import KAFKA_JARS_VARIABLE, load_settings

_HOST = "127.0.0.1"
_WORKER_PORT = variable_of(("worker", "port"))
_EMBEDDED_FETCH_WAIT_MS = 20
"""Milliseconds; the embedded broker does not answer a waiting fetch when records arrive."""

Broker = Literal["embedded", "apache"]


@dataclass(frozen=True)
class StackOptions:
    """What a user chooses of a stack. Port 0 is any free one."""

    data: Path = DEFAULT_DATA
    broker: Broker = "embedded"
    """Topics are in memory and end with the embedded one; Apache Kafka's are on disk."""
    port: int = 8080
    kafka_port: int = 19092
    redis_port: int = 16379
    kafka: str | None = None
    """A Kafka that already runs, `host:port`; then no broker is started."""
    redis: str | None = None
    """The URL of a Redis that already runs; then none is started."""
    console_port: int | None = None
    """Of the browser console; None: none is started."""

    @property
    def starts_embedded(self) -> bool:
        """Whether the stack's broker is the embedded one."""
        return self.kafka is None and self.broker == "embedded"


@dataclass(frozen=True)
class Plan:
    """From what the parts of a stack are made."""

    options: StackOptions
    settings: Settings
    folder: DataFolder
    environ: Mapping[str, str]
    """Of the parts: the user's own variables, and all settings."""
    console_port: int | None = None
    """The one that has been claimed for the console, if there is to be one."""


def console_port_beside(port: int) -> int:
    """Return the console's port of a stack whose HTTP server has this one."""
    return port + 1 if 0 < port < 65535 else 0


PartsOf = Callable[[Plan], Sequence[Part]]


def default_parts(plan: Plan) -> list[Part]:
    """Return the processes of a stack: broker, Redis, workers, trainer and server.

    Raises `StackError` when a binary is missing.
    """
    parts = []
    if plan.options.kafka is None:
        parts.append(broker_part(plan))
    if plan.options.redis is None:
        parts.append(redis_part(plan))
    parts += headrace_parts(plan)
    if plan.console_port is not None:
        parts.append(console_part(plan.settings.url, plan.console_port, plan.environ))
    return parts


def broker_part(plan: Plan) -> Part:
    """Return the embedded broker, or the node of Apache Kafka in the data folder.

    Raises `StackError` when what it is made of is missing.
    """
    port = int(plan.settings.kafka.rpartition(":")[2])
    if plan.options.starts_embedded:
        command = broker_command(find_broker(plan.environ), port)
        about, stop_within_s = "embedded, topics in memory", 1.0
    else:
        command = find_apache(plan.environ).command(port, plan.folder.kafka)
        about, stop_within_s = f"Apache Kafka {VERSION}, topics on disk", STOP_WITHIN_S
    return Part(
        name="broker",
        command=command,
        environ={},
        is_ready=readiness.broker_has_topics(plan.settings),
        cure="Try another port with --kafka-port, or name a Kafka that runs with --kafka.",
        about=about,
        stop_within_s=stop_within_s,
    )


def redis_part(plan: Plan) -> Part:
    """Return a Redis that keeps an append-only file in the data folder."""
    port = int(plan.settings.redis.rpartition(":")[2].partition("/")[0])
    return Part(
        name="redis",
        command=redis_command(find_redis(plan.environ), port, plan.folder.redis),
        environ={},
        is_ready=readiness.redis_answers(plan.settings),
        cure="Try another port with --redis-port, or name a Redis that runs with --redis.",
    )


def headrace_parts(plan: Plan) -> list[Part]:
    """Return Headrace's own processes."""
    settings = plan.settings
    running = readiness.beats(settings, "worker", state="running")
    checks: dict[str, tuple[tuple[str, ...], Check]] = {"worker": (("worker",), running)}
    # Models that read the same topics share a worker.
    for other in settings.states[1:]:
        command = ("worker", "--model", other.model_id)
        checks[f"worker-{other.model_id}"] = (command, running)
    checks["trainer"] = (("trainer",), readiness.beats(settings, "trainer"))
    checks["server"] = (("serve",), readiness.server_is_ready(settings))
    own = {"broker": plan.options.kafka is None, "redis": plan.options.redis is None}
    return [
        Part(
            name=name,
            command=(sys.executable, "-m", "headrace.cli", *command),
            # One of them has the port that settings give, if they give one.
            environ={**plan.environ, **({_WORKER_PORT: "0"} if "-" in name else {})},
            is_ready=check,
            needs=tuple(need for need, is_own in own.items() if is_own),
            # That broker comes back without its topics, and clients do not take well to that.
            follows=("broker",) if plan.options.starts_embedded else (),
            cure="Its log says why.",
            stop_within_s=3.0,
        )
        for name, (command, check) in checks.items()
    ]


class LocalStack:
    """The parts of Headrace, started on entering and ended on leaving.

    ```python
    async with LocalStack(StackOptions(port=0), os.environ) as stack:
        print(stack.url, stack.api_key)
        await stack.wait()
    ```

    Variables in `environ` are settings of the parts, but for those that the stack itself decides:
    the addresses, the folders of artifacts and archive, and the key. `parts` makes the list of
    processes; `on_change` gets each change of one, and `say` a line for the user on each death.
    Parts end with the thread that entered the stack, even when that is killed.
    """

    def __init__(
        self,
        options: StackOptions,
        environ: Mapping[str, str],
        *,
        parts: PartsOf = default_parts,
        on_change: Callable[[PartStatus], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
        policy: RestartPolicy | None = None,
    ) -> None:
        self._options = options
        self._environ = environ
        self._parts = parts
        self._on_change = on_change
        self._say = say
        self._policy = policy
        self._folder = DataFolder(options.data)
        self._settings: Settings | None = None
        self._supervisor: Supervisor | None = None
        self._ready = False
        self._started_at = 0.0

    @property
    def settings(self) -> Settings:
        """The settings of the parts, with the addresses filled in."""
        if self._settings is None:
            raise StackError("The stack has no addresses before it is started.")
        return self._settings

    @property
    def url(self) -> str:
        """Where the HTTP server answers."""
        return self.settings.url

    @property
    def api_key(self) -> str:
        """The key that the HTTP server asks for."""
        return self.settings.api_key

    @property
    def folder(self) -> DataFolder:
        """The data folder."""
        return self._folder

    @property
    def wants_console(self) -> bool:
        """Whether a console is wanted; there is one if it is installed."""
        return self._options.console_port is not None

    @property
    def statuses(self) -> list[PartStatus]:
        """How each part fares."""
        return self._supervisor.statuses if self._supervisor else []

    async def __aenter__(self) -> LocalStack:
        """Start every part and wait until all are ready.

        Raises `HeadraceError` when that cannot be; nothing runs then.
        """
        self._folder.take()
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every part."""
        await self._stop()

    async def wait(self) -> None:
        """Wait for as long as all goes well. Raises `StackError` when a part is given up."""
        if self._supervisor is not None:
            await self._supervisor.wait()

    async def _start(self) -> None:
        self._started_at = time.time()
        self._settings = choose_settings(self._options, self._environ, self._folder)
        plan = Plan(
            options=self._options,
            settings=self._settings,
            folder=self._folder,
            environ=part_environ(self._environ, self._settings),
            console_port=_console_port(self._options),
        )
        self._supervisor = Supervisor(
            await readiness.in_daemon_thread(lambda: self._parts(plan)),
            logs=self._folder.logs,
            on_change=self._changed,
            say=self._say,
            policy=self._policy,
        )
        self._write_state()
        await readiness.check_servers(
            self._settings,
            kafka=self._options.kafka is not None,
            redis=self._options.redis is not None,
        )
        await self._supervisor.start()
        self._ready = True
        self._write_state()

    async def _stop(self) -> None:
        if self._supervisor is not None:
            await self._supervisor.stop()
        self._folder.release()

    def _changed(self, status: PartStatus) -> None:
        self._write_state()
        self._on_change(status)

    def _write_state(self) -> None:
        self._folder.write(
            StackState(
                pid=os.getpid(),
                started_at=self._started_at,
                ready=self._ready,
                variables=self.settings.environ(),
                parts=self.statuses,
            )
        )


def choose_settings(
    options: StackOptions, environ: Mapping[str, str], folder: DataFolder
) -> Settings:
    """Return the user's settings with the addresses, the folder and the key of this stack.

    Raises `StackError` when a port is taken, `InvalidSetting` for a wrong variable.
    """
    base = load_settings(
        {key: value for key, value in environ.items() if key not in _decided_variables()}
    )
    _check_brokers(options)
    _check_distinct(options)
    kafka, redis = options.kafka, options.redis
    if kafka is None:
        kafka = f"{_HOST}:{_claim(options.kafka_port, 'the broker', '--kafka-port')}"
    if redis is None:
        redis = f"redis://{_HOST}:{_claim(options.redis_port, 'Redis', '--redis-port')}/0"
    port = _claim(options.port, "the HTTP server", "--port", host=base.serving.host)
    chosen = msgspec.structs.replace(
        base,
        kafka=kafka,
        redis=redis,
        artifacts=str(folder.artifacts),
        archive=str(folder.archive),
        url=f"http://{_HOST}:{port}",
        api_key=folder.api_key(),
        worker=_worker(base.worker, embedded=options.starts_embedded),
        serving=msgspec.structs.replace(base.serving, port=port),
    )
    return load_settings(chosen.environ())


def _worker(chosen: WorkerSettings, *, embedded: bool) -> WorkerSettings:
    if not embedded:
        return chosen
    return msgspec.structs.replace(chosen, fetch_wait_ms=_EMBEDDED_FETCH_WAIT_MS)


def part_environ(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the variables of a part: the user's own, and all settings in place of theirs."""
    others = {
        key: value
        for key, value in environ.items()
        if not key.startswith(PREFIX) or key == KAFKA_JARS_VARIABLE
    }
    return {**others, **settings.environ()}


def _decided_variables() -> frozenset[str]:
    names = ("KAFKA", "REDIS", "ARTIFACTS", "ARCHIVE", "URL", "API_KEY", "SERVING_PORT")
    return frozenset(PREFIX + name for name in names)


def _check_brokers(options: StackOptions) -> None:
    if options.kafka is not None and options.broker != "embedded":
        raise StackError(
            f"--broker {options.broker} starts a broker and --kafka {options.kafka} names one that "
            "runs; choose one of the two."
        )


def _check_distinct(options: StackOptions) -> None:
    ports = {
        "--port": options.port,
        "--kafka-port": 0 if options.kafka else options.kafka_port,
        "--redis-port": 0 if options.redis else options.redis_port,
    }
    for name, port in ports.items():
        for other, taken in ports.items():
            if port and name < other and port == taken:
                raise StackError(f"{name} and {other} are both {port}; each needs its own.")


def _console_port(options: StackOptions) -> int | None:
    if options.console_port is None or not is_installed():
        return None
    return _claim(options.console_port, "the console", "--console-port")


def _claim(port: int, use: str, option: str, *, host: str = _HOST) -> int:
    return claim_port(port, host=host, use=use, option=option)


__all__ = [
    "Broker",
    "LocalStack",
    "Part",
    "Plan",
    "StackOptions",
    "broker_part",
    "default_parts",
    "headrace_parts",
    "redis_part",
]
