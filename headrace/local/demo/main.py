"""The demo as a command: the stack, the main job on it, what is told of it, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from headrace.errors import HeadraceError, StackError
from headrace.local.console import GET_IT, address_of
from headrace.local.demo.background import Background
from headrace.local.demo.client import connect_client
from headrace.local.demo.display import show
from headrace.local.demo.figures import Figures, Hits
from headrace.local.demo.job import MainJob, Outcome
from headrace.local.demo.report import render
from headrace.local.demo.summary import is_right, rows, table, write_json
from headrace.local.demo.watch import watch
from headrace.local.folder import DataFolder
from headrace.local.movielens import CREDIT, MovieLens, cache_folder, load_movielens
from headrace.local.stack import Broker, LocalStack, StackOptions, console_port_beside
from headrace.store import connect

SETTINGS = {
    # 80,000 and 90,000 are multiples, so trainings read the log up to exactly these.
    "HEADRACE_RETRAIN_EVERY_EVENTS": "10000",
    # Any rating may be the event to be predicted, bad ones too: 1 is the lowest.
    "HEADRACE_TRAINING_POSITIVE_THRESHOLD": "1",
}
_FIRST_SHARE = 0.8
"""Of the events, sent at once; the rest follow one by one."""
_SUMMARY, _REPORT = "summary.json", "report.html"
_USERS_TOLD = 5
_REASONS_TOLD = 5
_INTERRUPTED = 130
"""The exit status by which shells know the end by Ctrl-C."""


@dataclass(frozen=True)
class DemoOptions:
    """What a user chooses of the demo."""

    folder: Path = Path("build/demo")
    """For the stack's data, `summary.json` and `report.html`."""
    broker: Broker = "embedded"
    port: int = 8080
    """Of the HTTP server; 0 is any free one."""
    stay: bool = False
    """Leave the system up after the summary, or what there is instead of one, until Ctrl-C."""
    events_per_second: float = 200.0
    """Of the last 20 %."""
    display: bool = True
    """Redraw a page on a terminal; else a line every few seconds."""


def run_demo(options: DemoOptions, environ: Mapping[str, str] = os.environ) -> int:
    """Run the demo; return the command's exit status, 1 when stream and sessions differ.

    Raises `HeadraceError` when it cannot be run to its end.
    """
    try:
        return asyncio.run(_run(options, environ))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _INTERRUPTED


async def _run(options: DemoOptions, environ: Mapping[str, str]) -> int:
    console = Console()
    began = time.monotonic()
    with _ended_by_signals():
        data = await asyncio.to_thread(load_movielens, cache_folder(environ))
        console.print(f"{CREDIT}.", style="dim", highlight=False)
        first = int(len(data.ratings) * _FIRST_SHARE)
        figures = Figures(Hits(first, len(data.ratings) - first), len(data.ratings))

        def say(line: str) -> None:
            console.print(line, style="yellow", markup=False)
            figures.notes.append(line)

        stack = LocalStack(_fresh_stack(options), {**environ, **SETTINGS}, say=say)
        async with Background() as display:
            redraw = options.display and console.is_terminal
            figures.phase = "starting broker, Redis, worker, trainer and server"
            display.start(show(figures, lambda: stack.statuses, console, redraw=redraw))
            async with stack:
                _tell_where(stack, console)
                succeeded = False
                try:
                    outcome = await _work(data, options, figures, stack, began)
                    await display.stop()
                    _tell(outcome, figures, options, console)
                    succeeded = is_right(outcome.summary)
                except HeadraceError as error:
                    # Of a stack that has failed there is nothing left to stay.
                    if not options.stay or isinstance(error, StackError):
                        raise
                    await display.stop()
                    console.print(
                        f"\nThe demo came no further than “{figures.phase}”: {error}",
                        style="red", markup=False,
                    )  # fmt: skip
                if options.stay:
                    await _stay(stack, data.ratings[-1].user_id, console)
    return 0 if succeeded else 1


async def _work(
    data: MovieLens, options: DemoOptions, figures: Figures, stack: LocalStack, began: float
) -> Outcome:
    """Do the main job on the stack, for as long as that lasts."""
    settings = stack.settings
    async with (
        connect_client(settings) as client,
        connect(settings) as redis,
        Background() as beside,
    ):
        beside.start(stack.wait())
        beside.start(watch(client, redis, settings, figures))
        job = MainJob(data, figures, client, redis, settings, options.events_per_second)
        return await beside.run(job.run(began))


def _fresh_stack(options: DemoOptions) -> StackOptions:
    """Remove what an earlier demo left; return the options of a stack whose counts begin at 0."""
    folder = options.folder / "stack"
    if DataFolder(folder).is_held():
        raise StackError(
            f"A demo already runs in {options.folder}; end it, or choose another folder with "
            "--data."
        )
    # Only what a stack has made is removed.
    if (folder / "lock").exists():
        shutil.rmtree(folder)
    # A demo that is broken off must not leave the figures of the one before.
    for name in (_SUMMARY, _REPORT):
        (options.folder / name).unlink(missing_ok=True)
    return StackOptions(
        data=folder,
        broker=options.broker,
        port=options.port,
        kafka_port=0,
        redis_port=0,
        console_port=console_port_beside(options.port) if options.stay else None,
    )


def _tell(outcome: Outcome, figures: Figures, options: DemoOptions, console: Console) -> None:
    """Print the summary; write it and the report."""
    summary = outcome.summary
    lines = rows(summary, events_per_second=options.events_per_second)
    console.print(table(lines))
    for note in summary.notes:
        console.print(note, style="yellow", markup=False)
    for reason, count in list(summary.failures.items())[:_REASONS_TOLD]:
        console.print(f"{count} times: {reason}", style="red", markup=False)
    for difference in outcome.differing[:_USERS_TOLD]:
        console.print(f"User {difference.user_id}: {difference.reason}.", style="red")
    write_json(summary, options.folder / _SUMMARY)
    report = options.folder / _REPORT
    report.write_text(render(figures, summary, lines), encoding="utf-8")
    console.print(f"{report} draws them over the stream.", highlight=False)


def _tell_where(stack: LocalStack, console: Console) -> None:
    """Print where the demo can be watched in a browser, above what is redrawn."""
    address = address_of(stack.statuses)
    if address is not None:
        console.print(f"See it at {address} already; its door asks for this key:", highlight=False)
        console.print(stack.api_key, highlight=False, markup=False, soft_wrap=True)
        console.print(
            "Be a new visitor there: what is done as a user of the data shows in the summary as a "
            "difference.",
            style="dim",
        )


async def _stay(stack: LocalStack, user_id: str, console: Console) -> None:
    """Leave the system up until Ctrl-C."""
    console.print("\nThe system stays up until Ctrl-C. Ask it:")
    # Printed plainly: a line that is wrapped cannot be pasted.
    print(
        f"curl -s {stack.url}/v1/recommendations -H 'authorization: Bearer {stack.api_key}' "
        f'-H \'content-type: application/json\' -d \'{{"user_id": "{user_id}", "k": 10}}\'',
        flush=True,
    )
    address = address_of(stack.statuses)
    seen = GET_IT if address is None else f"See it at {address}; its door asks for this key."
    print(seen, flush=True)
    # The demo is over: this Ctrl-C ends the command well.
    with contextlib.suppress(asyncio.CancelledError):
        await stack.wait()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have the first Ctrl-C or SIGTERM cancel this task; another does not disturb the end."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    signals = (signal.SIGINT, signal.SIGTERM)
    ending = False

    def end() -> None:
        nonlocal ending
        if not ending and task is not None:
            ending = True
            task.cancel()

    for number in signals:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
