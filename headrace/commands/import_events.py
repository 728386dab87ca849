"""The command that imports files: its options made ours, a bar, and what became of the rows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from headrace.commands.output import output
from headrace.commands.printable import printable
from headrace.errors import HeadraceError
from headrace.importing.layout import Layout
from headrace.importing.refusals import open_refusals
from headrace.importing.run import Imported, ImportOptions, go_on, import_files
from headrace.importing.sources import size_of
from headrace.settings import Settings
from headrace.topics import Topics


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Return what was given as `NAME=VALUE`, by name.

    Raises `HeadraceError` for what is no pair, or given twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise HeadraceError(f"{option} {text!r} is not FIELD=…, as in user_id=….")
        if name in found:
            raise HeadraceError(f"{option} gives {name} twice.")
        found[name] = value
    return found


def layout(
    mapped: Sequence[str],
    constants: Sequence[str],
    left_out: Iterable[str],
    time_unit: str,
    separator: str,
) -> Layout:
    """Return the layout that options give. Raises `HeadraceError` for what is no pair."""
    return Layout(
        columns=pairs("--map", mapped),
        constants=pairs("--set", constants),
        left_out=frozenset(left_out),
        time_unit=time_unit,
        separator=separator,
    )


def delimiter(text: str | None) -> str | None:
    """Return the character that `--delimiter` means. Raises `HeadraceError` for more than one."""
    named = {"tab": "\t", "\\t": "\t", "space": " "}.get(text or "", text)
    if named is not None and (len(named) != 1 or named in '\r\n"'):
        raise HeadraceError(f"--delimiter {text!r} is not one character, nor `tab`.")
    return named


def run(options: ImportOptions, settings: Settings, refused: Path | None) -> bool:
    """Import, show what became of it, and return whether all rows were accepted.

    Raises `HeadraceError` when it is broken off, saying what has arrived and how to go on.
    """
    # It reports each refused connection; the error that ends the import says it once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = output()
    size = sum(map(size_of, options.files))
    going_on = options.from_row is not None
    with open_refusals(refused, options.files, append=going_on) as refusals:
        imported = Imported(refusals)
        try:
            with _bar(size, console) as progress:
                asyncio.run(
                    import_files(options, settings, imported, clock=time.time, progress=progress)
                )
        except KeyboardInterrupt as exc:
            raise HeadraceError(f"Broken off.{go_on(imported, options)}") from exc
        except HeadraceError as exc:
            raise HeadraceError(f"{exc}{go_on(imported, options)}") from exc
    report(imported, options, Topics(settings), console)
    if refused and refusals.count:
        console.print(f"The refused rows are in {printable(str(refused))}.", soft_wrap=True)
    return not refusals.count


@contextmanager
def _bar(size: int, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs; what is yielded is told the bytes read and rows accepted."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("importing", total=size)
        yield lambda done, count: progress.update(
            bar, completed=done, description=f"{count:,} rows"
        )


def report(imported: Imported, options: ImportOptions, topics: Topics, console: Console) -> None:
    """Show how many rows each topic got, and what was refused and why."""
    refusals = imported.refusals
    would = "would be " if options.dry_run else ""
    nothing = "" if imported.count or refusals.count else " There was no row to read."
    console.print(
        f"{imported.count:,} rows {would}accepted, {refusals.count:,} refused.{nothing}",
        highlight=False,
    )
    accepted = Table("topic", "rows", box=None)
    for topic, count in sorted(imported.accepted.items()):
        accepted.add_row(topics.plain(topic), f"{count:,}")
    if accepted.row_count:
        console.print(accepted)
    refused = Table("refused", "rows", "for example", "the first ones", box=None)
    for reason in refusals.reasons:
        first = ", ".join(_place(file, row, options.files) for file, row in reason.first)
        more = ", …" if reason.count > len(reason.first) else ""
        refused.add_row(
            f"[red]{printable(reason.kind[:200])}[/]",
            f"{reason.count:,}",
            printable(reason.example[:200]) if reason.example != reason.kind else "",
            f"{first}{more}",
        )
    if refused.row_count:
        console.print(refused)


def _place(file: str, row: int, files: Sequence[Path]) -> str:
    return f"{printable(Path(file).name)}:{row}" if len(files) > 1 else str(row)
