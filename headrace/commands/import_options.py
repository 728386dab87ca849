"""The options of `headrace import`."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from headrace.commands.extras import extra
from headrace.commands.of_model import of_model


class Kind(str, Enum):
    """What a row can be."""

    click = "click"
    rating = "rating"
    purchase = "purchase"
    item = "item"


class Format(str, Enum):
    """How a file can be written."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class TimeUnit(str, Enum):
    """What a timestamp can be counted in."""

    s = "s"
    ms = "ms"
    us = "us"
    iso = "iso"


def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="JSON lines, CSV or Parquet.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", help="Whose topics get the events; of the settings if not given."),
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(help="What the rows are; if not given, the field `type` of each says it."),
    ] = None,
    mapped: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="Which column a field is in."),
    ] = None,
    constants: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A field in rows that lack it."),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Not imported; *: all that are no field."),
    ] = None,
    time_unit: Annotated[
        TimeUnit, typer.Option(help="Of the timestamp; iso: dates in words.")
    ] = TimeUnit.s,
    separator: Annotated[str, typer.Option(help="Between the categories in a cell.")] = "|",
    format_: Annotated[
        Format | None, typer.Option("--format", help="If the suffix does not say it.")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Between the cells of CSV: a character, or tab.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="The columns of CSV without a header line."),
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of CSV.")] = "utf-8-sig",
    from_row: Annotated[
        int | None,
        typer.Option(min=1, help="Go on with this row of the first file, and with --refused."),
    ] = None,
    ids_by_row: Annotated[
        bool,
        typer.Option(
            "--ids-by-row", help="Rows without event_id that say the same are as many events."
        ),
    ] = False,
    refused: Annotated[
        Path | None, typer.Option(help="File for the refused rows, each with its reason.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and send nothing.")
    ] = False,
) -> None:
    """Import files of events or items straight into Kafka.

    Files may be compressed (.gz, .bz2, .xz, .zst). Who has no access to Kafka sends events over
    HTTP with [bold]headrace send[/].
    """
    with extra("training"):
        from headrace.commands import import_events
        from headrace.commands.addresses import find_settings
        from headrace.importing.run import ImportOptions
        from headrace.importing.sources import Form

        options = ImportOptions(
            files=files,
            kind=kind.value if kind else None,
            form=Form(
                format=format_.value if format_ else None,
                delimiter=import_events.delimiter(delimiter),
                columns=columns.split(",") if columns else None,
                encoding=encoding,
            ),
            layout=import_events.layout(
                mapped or (), constants or (), leave_out or (), time_unit.value, separator
            ),
            from_row=from_row,
            ids_by_row=ids_by_row,
            dry_run=dry_run,
        )
        settings = of_model(find_settings(os.environ), model)
        accepted = import_events.run(options, settings, refused)
    raise typer.Exit(0 if accepted else 1)
