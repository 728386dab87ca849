"""`headrace replay`: the bar and the report."""

from __future__ import annotations

import asyncio

from rich.console import Console
from rich.table import Table

from headrace.commands.bars import bar, explained
from headrace.errors import HeadraceError
from headrace.replaying.course import Listener, ReplayOptions, passed, replay, size
from headrace.replaying.shadow import ReplayRecord, name_of, promotion, shadow_settings
from headrace.replaying.window import BEGINNING, NOW, check_order, check_topics, parse_time
from headrace.settings import Settings
from headrace.state import NOTHING, state_hash
from headrace.store import connect
from headrace.topics import Topics

_OUTCOMES = ("read", "new", "known", "expired", "erased", "invalid")


def replay_command(settings: Settings, options: ReplayOptions, console: Console) -> None:
    """Replay as asked, and report. Raises `HeadraceError`."""
    _check(settings, options)
    into = f" into {options.into}" if options.into else ""
    with explained(settings, f"Run the same command again to go on{into}."):
        asyncio.run(_replay(settings, options, console))


def state_hash_command(settings: Settings, namespace: str | None, console: Console) -> None:
    """Print the digest of a namespace's state."""
    if namespace is not None:
        settings = name_of(settings, namespace)
    with explained(settings, "Run the command again."):
        asyncio.run(_print_known_hash(settings, console))


def _check(settings: Settings, options: ReplayOptions) -> None:
    """Raise `HeadraceError`, before anything is connected to, for options that mean nothing."""
    check_topics(options.topics, Topics(settings))
    begin = parse_time(options.begin, "--from", BEGINNING)
    check_order(begin, parse_time(options.end, "--to", NOW))
    if options.into is not None:
        try:
            shadow_settings(settings, options.into)
        except HeadraceError as exc:
            raise HeadraceError(f"--into: {exc}") from exc


async def _replay(settings: Settings, options: ReplayOptions, console: Console) -> None:
    with bar(console, "records") as progress:
        task = progress.add_task("replaying", total=None)

        def begun(record: ReplayRecord, goes_on: bool) -> None:
            progress.update(task, total=size(record), completed=passed(record))
            if goes_on:
                does = "would go on" if options.dry_run else "goes on"
                console.print(f"The replay into {options.into} {does} where it was left.")

        def moved(record: ReplayRecord) -> None:
            progress.update(task, completed=passed(record))

        record = await replay(settings, options, Listener(begun, moved))
    _report(record, options, console)
    if options.into is not None and not options.dry_run:
        await _print_hash(shadow_settings(settings, options.into), console)
        console.print(f"`{promotion(settings, options.into)}` makes it the live state.")


def _report(record: ReplayRecord, options: ReplayOptions, console: Console) -> None:
    outcomes = [
        name for name in _OUTCOMES if any(name in counts for counts in record.counts.values())
    ]
    table = Table("topic", *outcomes, box=None)
    for topic in record.window.topics:
        counts = record.counts.get(topic, {})
        table.add_row(topic, *(f"{counts.get(name, 0):,}" for name in outcomes))
    console.print(f"From {options.begin} to {options.end}:")
    console.print(table)
    if lost := record.window.lost:
        console.print(
            f"The first {sum(lost.values()):,} offsets of {', '.join(lost)} are neither in Kafka "
            "nor archived: what only they told is not in it.",
            highlight=False,
        )
    if options.dry_run:
        console.print("Nothing was written.")


async def _print_known_hash(settings: Settings, console: Console) -> None:
    if await _print_hash(settings, console) == NOTHING:
        raise HeadraceError(
            f"That is the digest of nothing: there is no state in the namespace "
            f"{settings.namespace}."
        )


async def _print_hash(settings: Settings, console: Console) -> str:
    redis = connect(settings)
    try:
        with bar(console, "keys") as progress:
            task = progress.add_task("digesting", total=None)
            digest = await state_hash(
                redis, settings, lambda keys: progress.update(task, completed=keys)
            )
    finally:
        await redis.aclose()
    console.print(f"state hash: {digest}", soft_wrap=True, highlight=False)
    return digest
