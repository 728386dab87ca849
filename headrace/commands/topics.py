"""The commands about the topics: describe them, make the missing ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.commands.topics_table import Watching

_MOST_S = 2_678_400
"""Longest sample, 31 days."""
Over = Annotated[str, typer.Option(metavar="DURATION", help="How long rates are measured.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
Watch = Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")]

topics = typer.Typer(help="Show the topics with lag and rates, or make them.")


@topics.callback(invoke_without_command=True)
def describe_all(
    context: typer.Context,
    over: Over = "2s",
    as_json: AsJson = False,
    watch: Watch = False,
) -> None:
    """Show each topic: how much it holds, how far workers lag, how fast both move.

    Nothing is written; [bold]headrace topics create[/] makes missing topics.
    """
    if context.invoked_subcommand is None:
        from headrace.commands.topics_table import show_topics

        show_topics(_watching(over, as_json, watch))


@topics.command()
def describe(
    topic: Annotated[str, typer.Argument(help="A topic, with or without the prefix.")],
    over: Over = "2s",
    as_json: AsJson = False,
    watch: Watch = False,
) -> None:
    """Show a topic partition by partition."""
    from headrace.commands.topics_table import show_partitions

    show_partitions(topic, _watching(over, as_json, watch))


@topics.command()
def create() -> None:
    """Make the topics that are missing; those there are stay as they are."""
    from headrace.commands.addresses import find_settings
    from headrace.commands.topics_table import make_topics

    make_topics(find_settings(os.environ))


def _watching(over: str, as_json: bool, watch: bool) -> Watching:
    from headrace.commands.addresses import find_settings
    from headrace.commands.durations import seconds
    from headrace.commands.topics_table import Watching

    over_s = seconds(over, "--over")
    if over_s > _MOST_S:
        raise HeadraceError(f"--over {over!r} is too long; rates are measured for 31d at the most.")
    return Watching(find_settings(os.environ), over_s, as_json, watch)
