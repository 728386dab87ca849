"""`headrace backup`, `headrace restore` and `headrace promote`: the bar and the report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from headrace.backup import back_up, restore
from headrace.commands.bars import bar, explained
from headrace.erasure_log import read_erasures
from headrace.erasures import Erasures
from headrace.model_settings import SHARED
from headrace.promote import promote
from headrace.replaying.shadow import name_of, promotion, shadow_settings
from headrace.reports import check_writable
from headrace.settings import Settings


def backup_command(settings: Settings, path: Path, console: Console) -> None:
    """Back up, and say what. Raises `HeadraceError`."""
    check_writable(path)
    with explained(settings, "Run the command again."), bar(console, "keys") as progress:
        task = progress.add_task("backing up", total=None)
        _, count = asyncio.run(
            back_up(
                settings,
                path,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
        )
    console.print(f"{count:,} keys, {path.stat().st_size:,} bytes: {path}", soft_wrap=True)


def restore_command(
    settings: Settings, path: Path, namespace: str | None, replace: bool, console: Console
) -> None:
    """Restore, and say what. Raises `HeadraceError`."""
    if namespace is not None:
        settings = name_of(settings, namespace)
    with (
        explained(
            settings,
            "Run the command again; if it had begun, workers wait until it has come to its end.",
        ),
        bar(console, "keys") as progress,
    ):
        task = progress.add_task("restoring", total=None)
        header, count = asyncio.run(
            restore(
                settings,
                path,
                replace=replace,
                read_erasures=_reader(settings),
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        )
    taken = datetime.fromtimestamp(header.taken_at).astimezone()
    console.print(f"{count:,} keys of {taken:%Y-%m-%d %H:%M} are in {settings.namespace}.")
    if namespace is None:
        console.print(
            "Workers go on from where they were then; start the servers again, which know the "
            "catalogue as it was before."
        )


def promote_command(settings: Settings, namespace: str, console: Console) -> None:
    """Promote, and say so. Raises `HeadraceError`."""
    # Before Redis is connected to.
    shadow_settings(settings, namespace)
    again = (
        f"Run `{promotion(settings, namespace)}` again; if it had begun, workers wait until it has "
        "come to its end."
    )
    tasks: dict[str, TaskID] = {}
    with explained(settings, again), bar(console, "keys") as progress:

        def show(phase: str, keys: int) -> None:
            _advance(progress, tasks, phase, keys)

        asyncio.run(promote(settings, namespace, _reader(settings), show))
    of_model = "" if settings.event_topics == SHARED else f", model {settings.model_id}"
    console.print(
        f"{namespace} is the live state of {settings.namespace}{of_model}; workers go on from it."
    )


def _reader(settings: Settings) -> Callable[[], Awaitable[Erasures]]:
    async def read() -> Erasures:
        return await asyncio.to_thread(read_erasures, settings)

    return read


def _advance(progress: Progress, tasks: dict[str, TaskID], phase: str, keys: int) -> None:
    if phase not in tasks:
        tasks[phase] = progress.add_task(phase, total=None)
    progress.advance(tasks[phase], keys)
