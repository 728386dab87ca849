"""The commands about dead letters: list them, show one, send them again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from headrace.commands.letters_table import Selection

Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only those whose reason holds this.")
]
Topic = Annotated[
    str | None, typer.Option(metavar="TOPIC", help="Only those that came from this topic.")
]
Since = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Only those of the last 1h, 7d, …")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]

dead_letters = typer.Typer(
    help="See what could not be read, and send it again.", no_args_is_help=True
)


@dead_letters.command("list")
def list_(
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest ones.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first: from where, why, and which were sent again."""
    from headrace.commands.letters_table import list_letters

    list_letters(_selection((), reason, topic, since), limit, as_json)


@dead_letters.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show everything about one: origin, reason, key and value."""
    from headrace.commands.letters_table import show_letter

    show_letter(_selection((letter_id,), None, None, None), as_json)


@dead_letters.command()
def send(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="As `list` shows them.")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="All that were not sent again yet, or those chosen.")
    ] = False,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field first."),
    ] = None,
    dropped: Annotated[
        list[str] | None, typer.Option("--drop", metavar="FIELD", help="Leave a field out.")
    ] = None,
    value: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Send this instead; - is standard input."),
    ] = None,
    edit: Annotated[
        bool, typer.Option("--edit", help="Change the value in $EDITOR first; of one letter.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Even those that were sent again already.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be sent, and what not.")
    ] = False,
) -> None:
    """Send dead letters to where they came from, once they would be taken there.

    Each is checked first; one that is still wrong stays and is named with its reason, and the exit
    code is 1.
    """
    from headrace.commands.resend import Fix, resend_letters

    fix = Fix(fields or (), dropped or (), value, edit)
    selection = _selection(tuple(ids or ()), reason, topic, since, everything=all_)
    if not resend_letters(selection, fix, again=again, dry_run=dry_run):
        raise typer.Exit(1)


def _selection(
    ids: tuple[str, ...],
    reason: str | None,
    topic: str | None,
    since: str | None,
    *,
    everything: bool = True,
) -> Selection:
    from headrace.commands.addresses import find_settings
    from headrace.commands.durations import seconds
    from headrace.commands.letters_table import Selection

    return Selection(
        find_settings(os.environ),
        ids=ids,
        reason=reason,
        topic=topic,
        since_s=None if since is None else seconds(since, "--since"),
        everything=everything,
    )
