"""The commands about the local stack: up, status, env, down."""

from __future__ import annotations

import asyncio
import logging
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from headrace.errors import StackError
from headrace.local.folder import DataFolder, StackState
from headrace.secrets import without_password
from headrace.settings_source import CONFIG_VARIABLE, KAFKA_JARS_VARIABLE

if TYPE_CHECKING:
    from headrace.local.stack import StackOptions


def up(options: StackOptions, environ: Mapping[str, str]) -> None:
    """Run a stack in the foreground. Raises `HeadraceError` when it cannot start or go on."""
    from headrace.local.up import run_up

    _quieten()
    asyncio.run(run_up(options, environ, Console()))


def up_detached(options: StackOptions, environ: Mapping[str, str]) -> None:
    """Start a stack in the background. Raises `StackError` when it does not come up."""
    from headrace.local.console import welcome
    from headrace.local.detached import start_detached

    folder = DataFolder(options.data)
    console = Console()
    with console.status("Starting the stack …"):
        state = start_detached(_up_command(options, folder), folder, _from_anywhere(environ))
    seen = welcome(state.parts, folder, wanted=options.console_port is not None)
    for line in (
        f"Headrace is up at {state.settings.url} (documented at {state.settings.url}/docs)",
        f'  eval "$(headrace env{folder.flag})" gives a shell its address and its key',
        f"  headrace status{folder.flag} shows its parts, headrace down{folder.flag} ends it",
        *([f"  {seen}"] if seen is not None else []),
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def status(data: Path) -> bool:
    """Show how the stack fares and return whether all is well."""
    from headrace.local.report import examine, status_table

    folder = DataFolder(data)
    state = folder.read()
    console = Console()
    if state is None:
        starting = folder.is_held()
        console.print(
            f"The stack on {folder.root} is starting or ending."
            if starting
            else f"No stack runs on {folder.root}; `headrace up{folder.flag}` starts one.",
            soft_wrap=True,
        )
        return False
    health = asyncio.run(examine(state))
    console.print(status_table(health, time.time()))
    redis = without_password(state.settings.redis)
    where = f"{state.settings.url}, Kafka {state.settings.kafka}, Redis {redis}"
    console.print(f"{where}, data {folder.root}", soft_wrap=True, highlight=False)
    return health.is_well


def exports(data: Path) -> str:
    """Return the lines that set the running stack's addresses and key in a shell.

    Raises `StackError` when no stack runs.
    """
    settings = _running(DataFolder(data)).settings
    values = {
        "HEADRACE_URL": settings.url,
        "HEADRACE_API_KEY": settings.api_key,
        "HEADRACE_KAFKA": settings.kafka,
        "HEADRACE_REDIS": settings.redis,
        "HEADRACE_ARCHIVE": settings.archive,
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items())


def down(data: Path) -> None:
    """End the stack that runs, and wait for its end. Raises `StackError` when it does not end."""
    from headrace.local.detached import stop_stack

    folder = DataFolder(data)
    ended = stop_stack(folder)
    said = "The stack has ended; its data stays in" if ended else "No stack runs on"
    Console().print(f"{said} {folder.root}.", soft_wrap=True, highlight=False)


def _running(folder: DataFolder) -> StackState:
    state = folder.read()
    if state is None:
        raise StackError(
            f"No stack runs on {folder.root}; `headrace up --detach{folder.flag}` starts one."
        )
    return state


def _up_command(options: StackOptions, folder: DataFolder) -> list[str]:
    command = [sys.executable, "-m", "headrace.cli", "up", "--data", str(folder.root)]
    values = {
        "--broker": options.broker,
        "--port": options.port,
        "--kafka-port": options.kafka_port,
        "--redis-port": options.redis_port,
        "--kafka": options.kafka,
        "--redis": options.redis,
        "--console-port": options.console_port,
    }
    for name, value in values.items():
        if value is not None:
            command += [name, str(value)]
    if options.console_port is None:
        command.append("--no-console")
    return command


def _from_anywhere(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with what is a path named so that another folder finds it."""
    paths = {
        name: str(Path(path).absolute())
        for name in (CONFIG_VARIABLE, KAFKA_JARS_VARIABLE)
        if (path := environ.get(name))
    }
    return {**environ, **paths}


def _quieten() -> None:
    # It reports each refused connection; who waits for the broker says it once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
