"""Commands on what stands in the log and in Redis: archived, replayed, promoted, backed up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands.extras import extra
from headrace.commands.of_model import of_model
from headrace.commands.options import ModelOption

if TYPE_CHECKING:
    from headrace.settings import Settings


def archive(
    topics: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Which topics; if not given, events and erasures."),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            min=1, max=2_678_400, metavar="SECONDS", help="Go on, once in so long, until Ctrl-C."
        ),
    ] = None,
) -> None:
    """Archive what is new in the topics, as Parquet files by day."""
    from headrace.commands.output import output

    with extra("training"):
        from headrace.commands.archive import archive_once, archive_over_and_over, chosen_topics
        from headrace.topics import Topics
    settings = _found_settings()
    names = chosen_topics(topics, Topics(settings))
    if every is None:
        archive_once(settings, names, output())
    else:
        archive_over_and_over(settings, names, every, output())


def replay(
    topics: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Which of the model's topics of events; all if not given."
        ),
    ] = None,
    begin: Annotated[
        str, typer.Option("--from", metavar="TIME", help="2026-11-01T00:00, or beginning.")
    ] = "beginning",
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Exclusive; or now.")] = "now",
    into: Annotated[
        str | None,
        typer.Option(metavar="NAMESPACE", help="Rebuild the state there, from nothing."),
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0, help="Records a second at the most; 0: as fast as it goes.")
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count; write nothing.")] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Delete first what an earlier replay left there.")
    ] = False,
    model: ModelOption = None,
) -> None:
    """Apply a window of the log once more, live or in a shadow.

    Into the live state nothing changes that was applied before. Stopped in the middle, the same
    command goes on. Times are the records' own, local ones unless they have an offset.
    """
    from headrace.commands.output import output
    from headrace.commands.replay import replay_command
    from headrace.replaying.course import ReplayOptions

    options = ReplayOptions(topics, begin, end, into, rate, dry_run, anew)
    replay_command(of_model(_found_settings(), model), options, output())


Namespace = Annotated[str, typer.Argument(metavar="NAMESPACE", help="Of `replay --into`.")]


def promote(namespace: Namespace, model: ModelOption = None) -> None:
    """Make a replayed shadow the live state; workers go on from it."""
    from headrace.commands.backup import promote_command
    from headrace.commands.output import output

    promote_command(of_model(_found_settings(), model), namespace, output())


def state_hash(
    namespace: Annotated[
        str | None, typer.Argument(metavar="[NAMESPACE]", help="The live one if not given.")
    ] = None,
    model: ModelOption = None,
) -> None:
    """Print a digest of the state: equal states, equal digests."""
    from headrace.commands.output import output
    from headrace.commands.replay import state_hash_command

    state_hash_command(of_model(_found_settings(), model), namespace, output())


def backup(file: Annotated[Path, typer.Argument(help="Written whole or not at all.")]) -> None:
    """Write to a file what stands in Redis, while workers run."""
    from headrace.commands.backup import backup_command
    from headrace.commands.output import output

    backup_command(_found_settings(), file, output())


def restore(
    file: Annotated[Path, typer.Argument(help="Of `headrace backup`.")],
    into: Annotated[
        str | None, typer.Option(metavar="NAMESPACE", help="The live one if not given.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete first what stands there.")
    ] = False,
) -> None:
    """Put a backup back into Redis; workers go on from it."""
    from headrace.commands.backup import restore_command
    from headrace.commands.output import output

    restore_command(_found_settings(), file, into, replace, output())


def _found_settings() -> Settings:
    from headrace.commands.addresses import find_settings

    return find_settings(os.environ)
