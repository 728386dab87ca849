"""Progress bars of commands that take long, and what breaks them off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from headrace.errors import HeadraceError
from headrace.settings import Settings


class RateColumn(ProgressColumn):
    """How many a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate in words; nothing before it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self._unit}/s" if speed else "")


@contextmanager
def bar(console: Console, unit: str) -> Iterator[Progress]:
    """Show bars with count, rate and time left, on a terminal, until the block ends."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield progress


@dataclass(frozen=True)
class Phases:
    """Shows what a benchmark is measuring, and how far that is."""

    progress: Progress

    @contextmanager
    def phase(self, title: str, total: float) -> Iterator[Callable[[float], None]]:
        """Show a bar until the block ends; the block tells how much of the total is done."""
        task = self.progress.add_task(title, total=total)
        if self.progress.disable:
            self.progress.console.print(f"{title} …", highlight=False)
        yield lambda done: self.progress.update(task, completed=done)
        self.progress.remove_task(task)


@contextmanager
def phases(console: Console) -> Iterator[Phases]:
    """Show bars on a terminal, elsewhere a line for each phase, until the block ends."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield Phases(progress)


@contextmanager
def explained(settings: Settings, cure: str) -> Iterator[None]:
    """Say how to go on after an error of Redis's, and after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise HeadraceError(f"Stopped. {cure}") from None
    except RedisError as exc:
        # Without the user and the password that the URL may hold.
        where = urlsplit(settings.redis)
        raise HeadraceError(
            f"Redis at {where.hostname or where.path}:{where.port or 6379}: "
            f"{str(exc).rstrip('.')}. Is it running, and is HEADRACE_REDIS right? {cure}"
        ) from exc
