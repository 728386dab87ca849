"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Data = Annotated[Path, typer.Option("--data", help="Folder of the stack's data.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="The model's id; of the settings if not given.")
]
BrokerOption = Annotated[
    Literal["embedded", "apache"],
    typer.Option(help="embedded: topics in memory. apache: on disk; needs `make kafka` once."),
]
PORT = {"min": 0, "max": 65535}
HttpPort = Annotated[int, typer.Option("--port", help="Port of the HTTP server; 0: any.", **PORT)]
