"""The command line: a command for each job of a user. What is heavy is imported inside commands."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace import __version__
from headrace.commands.bench import bench
from headrace.commands.dead_letters import dead_letters
from headrace.commands.extras import extra as _extra
from headrace.commands.import_options import import_
from headrace.commands.keys import keys
from headrace.commands.models import models
from headrace.commands.options import BrokerOption, HttpPort, ModelOption
from headrace.commands.stack import down, env, status, up
from headrace.commands.state import archive, backup, promote, replay, restore, state_hash
from headrace.commands.topics import topics
from headrace.commands.training import tasks, train
from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.client import Client
    from headrace.settings import Settings

TRY, STACK, PART = "Try it", "Run the local stack", "Run one part"
SEND, ASK, RUN, MEASURE = "Send events", "Ask", "Run it", "Measure it"

app = typer.Typer(
    name="headrace",
    help="A streaming real-time recommender: what a user did a moment ago changes what the next "
    "request recommends.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

app.add_typer(models, name="models", rich_help_panel=RUN)
app.add_typer(topics, name="topics", rich_help_panel=RUN)
app.add_typer(dead_letters, name="dead-letters", rich_help_panel=RUN)
app.add_typer(keys, name="keys", rich_help_panel=RUN)
app.add_typer(bench, name="bench", rich_help_panel=MEASURE)


def main() -> None:
    """Run a command. What a user can mend ends in one line on standard error and exit code 1."""
    try:
        app()
    except HeadraceError as exc:
        sys.stderr.write(f"headrace: {exc}\n")
        sys.exit(1)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


# Try it


@app.command(rich_help_panel=TRY)
def demo(
    data: Annotated[
        Path, typer.Option(help="Folder of its data, its summary and its report.")
    ] = Path("build/demo"),
    broker: BrokerOption = "embedded",
    port: HttpPort = 8080,
    stay: Annotated[
        bool, typer.Option("--stay", help="Leave the system up at the end, until Ctrl-C.")
    ] = False,
    events_per_second: Annotated[
        float, typer.Option(min=1, max=10_000, help="How fast the last 20 % is sent.")
    ] = 200.0,
    display: Annotated[
        bool,
        typer.Option("--display/--no-display", help="Redraw a page, or print a line now and then."),
    ] = True,
) -> None:
    """Watch it learn live from 100,000 real ratings; get a report."""
    with _extra("local"):
        from headrace.local.demo.main import DemoOptions, run_demo
    options = DemoOptions(
        folder=data,
        broker=broker,
        port=port,
        stay=stay,
        events_per_second=events_per_second,
        display=display,
    )
    raise typer.Exit(run_demo(options))


# Run the local stack


app.command(rich_help_panel=STACK)(up)
app.command(rich_help_panel=STACK)(status)
app.command(rich_help_panel=STACK)(env)
app.command(rich_help_panel=STACK)(down)


# Run one part


@app.command(rich_help_panel=PART)
def worker(model: ModelOption = None) -> None:
    """Run a worker: events from Kafka into sessions in Redis.

    Models that read the same topics share their workers; the catalogue is brought by workers of the
    settings' own model.
    """
    settings = _settings()
    with _extra("streams"):
        from streams.worker import run
    run(settings, model)


@app.command(rich_help_panel=PART)
def trainer(
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="Train with the other processes that TF_CONFIG names; the chief takes the tasks.",
        ),
    ] = False,
) -> None:
    """Run the trainer: takes tasks, trains, puts versions live."""
    settings = _settings()
    with _extra("training"):
        from models.training.cluster_config import cluster_config
        from models.training.trainer import run
    run(settings, cluster_config(os.environ) if distributed else None)


@app.command(rich_help_panel=PART)
def serve(
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Processes; of the settings if not given."),
    ] = None,
) -> None:
    """Run a server: recommendations and events over HTTP."""
    own = {} if workers is None else {"HEADRACE_SERVING_WORKERS": str(workers)}
    settings = _settings(own)
    # Read when NumPy is imported. Its threads wait for each other in every product, which takes
    # longer than a product of one session with all items; on a busy machine, a hundred times so.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with _extra("serving"):
        from serving.main import run
    run(settings)


@app.command(rich_help_panel=PART)
def console(
    url: Annotated[
        str | None,
        typer.Option(help="The server's address; of the settings or the local stack if not given."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any.", min=0, max=65535)] = 8081,
) -> None:
    """Run the browser console: see the system work, and run it.

    It is a client of the server like any other, and asks whoever comes for a key.
    """
    from headrace.local.ports import claim_port

    if url is not None and not re.match(r"https?://[^/?#]+", url):
        raise typer.BadParameter(f"{url!r} is no address of a server: http://HOST:PORT is one.")
    free = claim_port(port, host=host, use="the console", option="--port")
    with _extra("console"):
        from console.main import run
    run(_found_settings().url if url is None else url, host=host, port=free)


class _Part(str, Enum):
    worker = "worker"
    trainer = "trainer"
    serve = "serve"


@app.command(rich_help_panel=PART)
def health(
    part: Annotated[_Part, typer.Argument(help="The part that runs on this host.")],
) -> None:
    """Exit with 0 when this host's own part is well."""
    from headrace.commands.health import check_heartbeat, check_server

    settings = _settings()
    if part is _Part.serve:
        check_server(settings)
    else:
        check_heartbeat(settings, part.value)


# Send events


app.command("import", rich_help_panel=SEND)(import_)


@app.command(rich_help_panel=SEND)
def send(
    file: Annotated[str, typer.Argument(help="A file of JSON lines; - is standard input.")],
    model: ModelOption = None,
) -> None:
    """Send a file of events over HTTP; what is wrong is named.

    Each line is an event with its [bold]type[/]. Who has access to Kafka, or another kind of file,
    uses [bold]headrace import[/].
    """
    from headrace.commands.output import output
    from headrace.commands.send import open_source, report, send_file

    console, to = output(), _path_of_model(model, "events")
    with _client() as client:
        if file == "-":
            sent = send_file(client, sys.stdin.buffer, path=to, size=None, console=console)
        else:
            path = Path(file)
            with open_source(path) as source:
                size = path.stat().st_size
                sent = send_file(client, source, path=to, size=size, console=console)
    report(sent, console)
    raise typer.Exit(1 if sent.refused else 0)


# Ask


@app.command(rich_help_panel=ASK)
def recommend(
    user_id: Annotated[str, typer.Argument(help="Whom to recommend to.")],
    k: Annotated[int, typer.Option("-k", min=1, max=500, help="How many items.")] = 10,
    model: ModelOption = None,
) -> None:
    """Show what a user is recommended right now."""
    from headrace.commands import show
    from headrace.commands.output import output

    with _client() as client:
        answer = client.post(_path_of_model(model, "recommendations"), {"user_id": user_id, "k": k})
    show.recommendations(answer, output())


@app.command(rich_help_panel=ASK)
def openapi() -> None:
    """Print the HTTP API as OpenAPI 3.1."""
    import msgspec

    with _extra("serving"):
        from serving.app import ROUTES
        from serving.openapi.document import document
    typer.echo(msgspec.json.format(msgspec.json.encode(document(ROUTES)), indent=2))


@app.command(rich_help_panel=ASK)
def asyncapi() -> None:
    """Print the topics as AsyncAPI 3.0."""
    import msgspec

    from headrace.asyncapi import document

    typer.echo(msgspec.json.format(msgspec.json.encode(document(_found_settings())), indent=2))


# Run it


app.command(rich_help_panel=RUN)(train)
app.command(rich_help_panel=RUN)(tasks)
app.command(rich_help_panel=RUN)(archive)
app.command(rich_help_panel=RUN)(replay)
app.command(rich_help_panel=RUN)(promote)
app.command("state-hash", rich_help_panel=RUN)(state_hash)
app.command(rich_help_panel=RUN)(backup)
app.command(rich_help_panel=RUN)(restore)


@app.command(rich_help_panel=RUN)
def settings() -> None:
    """List every setting: variable, value, default, meaning."""
    from headrace.commands.output import output
    from headrace.commands.settings_table import table

    output().print(table(_settings()))


def _settings(chosen: Mapping[str, str] | None = None) -> Settings:
    """Return the settings, with what options say in place of variables."""
    from headrace.settings_source import load_settings

    return load_settings({**os.environ, **(chosen or {})})


def _found_settings() -> Settings:
    from headrace.commands.addresses import find_settings

    return find_settings(os.environ)


def _client() -> Client:
    with _extra("local"):
        from headrace.client import Client
    return Client(_found_settings())


def _path_of_model(model: str | None, call: str) -> str:
    return f"/v1/{call}" if model is None else f"/v1/models/{_segment(model)}/{call}"


def _model(model: str | None) -> str:
    return _segment(model or _found_settings().model_id)


def _segment(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


if __name__ == "__main__":
    main()
