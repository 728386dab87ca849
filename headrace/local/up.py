"""`headrace up`: the stack in the foreground, told line by line, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from headrace.local.console import welcome
from headrace.local.parts import PartStatus
from headrace.local.stack import LocalStack, PartsOf, StackOptions, default_parts
from headrace.secrets import without_password


async def run_up(
    options: StackOptions,
    environ: Mapping[str, str],
    console: Console,
    *,
    parts: PartsOf = default_parts,
) -> None:
    """Run a stack until SIGINT, SIGTERM or SIGHUP; a second one ends its parts without grace.

    Raises `HeadraceError` when the stack cannot start or go on.
    """
    teller = _Teller(console)
    stack = LocalStack(options, environ, parts=parts, on_change=teller.change, say=teller.say)
    running = asyncio.create_task(_run(stack, teller))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    if running.cancelled():
        teller.say("The stack has ended; its data stays.")


async def _run(stack: LocalStack, teller: _Teller) -> None:
    async with stack:
        teller.ready(stack)
        await stack.wait()


class _Teller:
    """Tells a user what becomes of the parts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[str, float] = {}

    def change(self, status: PartStatus) -> None:
        """Tell of a part that has become ready."""
        if status.state == "starting":
            self._began[status.name] = time.monotonic()
        if status.state == "ready":
            took = time.monotonic() - self._began[status.name]
            self._print(f"[green]✓[/] {status.name:<8} ready after {took:4.1f} s")

    def say(self, line: str) -> None:
        """Tell something in one line."""
        self._print(escape(line))

    def ready(self, stack: LocalStack) -> None:
        """Tell where the stack is, and what to do next."""
        settings = stack.settings
        self._print(
            f"\nHeadrace is up at [bold]{settings.url}[/] (documented at {settings.url}/docs)"
        )
        redis = without_password(settings.redis)
        self._print(f"  Kafka {settings.kafka}, Redis {redis}, data {stack.folder.root}")
        self._print(
            f'  eval "$(headrace env{stack.folder.flag})" gives a shell its address and its key; '
            "Ctrl-C ends it."
        )
        if (line := welcome(stack.statuses, stack.folder, wanted=stack.wants_console)) is not None:
            self._print(f"  {escape(line)}")

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False)
