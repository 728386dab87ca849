"""The commands about models and their versions: list, choose, keep, delete; and the signing key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote, urlencode

import typer

from headrace.commands.extras import extra

if TYPE_CHECKING:
    from headrace.client import Client

models = typer.Typer(
    help="List versions and how they do; choose, pin or delete one.",
    invoke_without_command=True,
)

ModelOption = Annotated[
    str | None, typer.Option("--model", help="The model's id; of the settings if not given.")
]
Version = Annotated[str, typer.Argument(help="A version that `headrace models` lists.")]
ModelId = Annotated[str, typer.Argument(metavar="MODEL", help="The model's id.")]


@models.callback()
def list_(context: typer.Context) -> None:
    """List versions and how they do; choose, pin or delete one."""
    if context.invoked_subcommand is not None:
        return
    from headrace.commands import show
    from headrace.commands.output import output

    console = output()
    with _client() as client:
        for model in client.get("/v1/models")["models"]:
            if model["deleted"]:
                show.deleted(model, console)
                continue
            found = client.get(f"/v1/models/{model['id']}/versions")
            show.versions(model, found, console)


@models.command()
def activate(version: Version, model: ModelOption = None) -> None:
    """Put a version live, a rejected one too. A pin moves along."""
    with _client() as client:
        live = client.post(f"{_version(model, version)}/activate")
    typer.echo(f"{live['version']} is live.")


@models.command()
def rollback(
    to: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Only if it leads there: somebody may be faster."),
    ] = None,
    model: ModelOption = None,
) -> None:
    """Put the version live again that was live before."""
    where = "" if to is None else f"?{urlencode({'to': to})}"
    with _client() as client:
        live = client.post(f"{_model(model)}/rollback{where}")
    typer.echo(f"{live['version']} is live.")


@models.command()
def pin(
    version: Annotated[
        str | None, typer.Argument(help="Put live, if it is not; the live one if not given.")
    ] = None,
    model: ModelOption = None,
) -> None:
    """Keep a version live: no training puts another in its place."""
    with _client() as client:
        pinned = client.put(f"{_version(model, version or _live(client, model))}/pin")["pinned"]
    typer.echo(f"{pinned} is live and stays; `headrace models unpin` ends that.")


@models.command()
def unpin(model: ModelOption = None) -> None:
    """Let new versions go live by themselves again."""
    with _client() as client:
        client.delete(f"{_model(model)}/pin")
    typer.echo("New versions go live by themselves again.")


@models.command()
def delete(
    version: Annotated[
        str | None, typer.Argument(help="Not the live one; if not given, the whole model.")
    ] = None,
    model: ModelOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a version, or a model with all of them."""
    path = _version(model, version) if version else _model(model)
    what = f"Version {version}" if version else f"Model {path.rpartition('/')[2]}"
    if not (yes or version):
        typer.confirm(f"{what}: delete all its versions, the live one too?", abort=True)
    with _client() as client:
        client.delete(path)
    typer.echo(f"{what} is deleted; the trainer deletes the files within moments.")


@models.command()
def create(model: ModelId) -> None:
    """Let a model that was deleted be trained again."""
    with _client() as client:
        client.put(f"/v1/models/{_segment(model)}")
    typer.echo(f"Model {model} is there; `headrace train --model {model}` trains it.")


@models.command()
def key(
    file: Annotated[Path, typer.Argument(help="Written anew; its owner alone may read it.")],
) -> None:
    """Make the key pair that versions are signed with.

    The private key goes to the file, for HEADRACE_VERSIONS_SIGNING_KEY at the trainer; the public
    one is printed, for HEADRACE_VERSIONS_TRUSTED_KEYS at servers and trainers.
    """
    with extra("serving"):
        from headrace.signatures import make_key
    typer.echo(make_key(file))


def _client() -> Client:
    import os

    with extra("local"):
        from headrace.client import Client
    from headrace.commands.addresses import find_settings

    return Client(find_settings(os.environ))


def _live(client: Client, model: str | None) -> str:
    from headrace.errors import HeadraceError

    path = _model(model)
    for found in client.get("/v1/models")["models"]:
        if path == f"/v1/models/{found['id']}" and found["live"]:
            return str(found["live"]["version"])
    raise HeadraceError(f"Model {path.rpartition('/')[2]} has no live version to pin.")


def _model(model: str | None) -> str:
    import os

    from headrace.commands.addresses import find_settings

    return f"/v1/models/{_segment(model or find_settings(os.environ).model_id)}"


def _version(model: str | None, version: str) -> str:
    return f"{_model(model)}/versions/{_segment(version)}"


def _segment(text: str) -> str:
    return quote(text, safe="")
