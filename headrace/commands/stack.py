"""`headrace up`, `status`, `env` and `down`: the local stack."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from headrace.commands.extras import extra
from headrace.commands.options import PORT, BrokerOption, Data, HttpPort
from headrace.local import DEFAULT_DATA


def up(
    data: Data = DEFAULT_DATA,
    broker: BrokerOption = "embedded",
    port: HttpPort = 8080,
    kafka_port: Annotated[int, typer.Option(help="Port of that broker; 0: any.", **PORT)] = 19092,
    redis_port: Annotated[int, typer.Option(help="Port of Redis; 0: any.", **PORT)] = 16379,
    kafka: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Use this Kafka and start no broker."),
    ] = None,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", help="Use this Redis and start none.")
    ] = None,
    console_port: Annotated[
        int | None,
        typer.Option(help="Port of the console; 0: any. Not given: one above --port.", **PORT),
    ] = None,
    console: Annotated[
        bool, typer.Option(help="Start the browser console too, if it is installed.")
    ] = True,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Leave it in the background once it is ready.")
    ] = False,
) -> None:
    """Start everything on this machine; Ctrl-C ends it."""
    from headrace.commands import local

    with extra("local"):
        from headrace.local.stack import StackOptions, console_port_beside
    options = StackOptions(
        data=data,
        broker=broker,
        port=port,
        kafka_port=kafka_port,
        redis_port=redis_port,
        kafka=kafka,
        redis=redis,
        console_port=(console_port_beside(port) if console_port is None else console_port)
        if console
        else None,
    )
    if detach:
        local.up_detached(options, os.environ)
    else:
        local.up(options, os.environ)


def status(data: Data = DEFAULT_DATA) -> None:
    """Show how each part fares; exit code 1 unless all are well."""
    from headrace.commands import local

    raise typer.Exit(0 if local.status(data) else 1)


def env(data: Data = DEFAULT_DATA) -> None:
    """Set address and key in a shell: [bold]eval "$(headrace env)"[/]."""
    from headrace.commands import local

    typer.echo(local.exports(data))


def down(data: Data = DEFAULT_DATA) -> None:
    """End the stack that runs in the background; its data stays."""
    from headrace.commands import local

    local.down(data)
