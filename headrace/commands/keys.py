"""The commands about API keys: make one, list them, revoke one."""

from __future__ import annotations

from typing import Annotated

import typer

keys = typer.Typer(help="Make, list and revoke the keys of the HTTP API.", no_args_is_help=True)


@keys.command()
def create(
    scope: Annotated[
        str,
        typer.Option(metavar="A,B", help="What it is for: events, recommend, train, admin, erase."),
    ],
    name: Annotated[str, typer.Option(help="Whose it is; it stands in the list.")] = "",
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long it lives: 12h, 90d, …")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="PER_SECOND", help="Requests a second, in each process."),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(metavar="REQUESTS", help="Requests at once, in each process."),
    ] = None,
) -> None:
    """Make a key and print it: it is shown this once.

    To exchange a key make a second one, give it to its users, and revoke the first.
    """
    from headrace.commands.keys_table import create_key

    create_key(scope, name=name, expires=expires, rate_per_s=rate, burst=burst)


@keys.command("list")
def list_() -> None:
    """List the keys: for what, since when, until when."""
    from headrace.commands.keys_table import list_keys

    list_keys()


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
) -> None:
    """Let a key, and the tokens of users made with it, count no more."""
    from headrace.commands.keys_table import revoke_key

    revoke_key(key_id)
