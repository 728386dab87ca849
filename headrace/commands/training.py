"""`headrace train` and `headrace tasks`: asking for trainings, and seeing what becomes of them."""

from __future__ import annotations

import contextlib
import math
import os
from contextlib import ExitStack
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from headrace.commands.extras import extra
from headrace.errors import HeadraceError
from headrace.training_kinds import (
    EPOCHS,
    KINDS,
    LEARNING_RATE,
    MODES,
    SEED,
    TRAIN_SPLIT_RATIO,
)

if TYPE_CHECKING:
    from headrace.client import Client

Kind = Enum("Kind", {name: name for name in KINDS}, type=str)  # type: ignore[misc]
Mode = Enum("Mode", {name: name for name in MODES}, type=str)  # type: ignore[misc]
_STATUSES = ("QUEUED", "RUNNING", "SUCCEEDED", "REJECTED", "FAILED", "CANCELLED")
Status = Enum("Status", {name: name for name in _STATUSES}, type=str)  # type: ignore[misc]


def _number(limits: tuple[float, float], help_: str) -> Any:
    """Return an option whose text is read, and refused, as a field of the request is."""
    return typer.Option(metavar="NUMBER", help=f"{help_} From {limits[0]:,} to {limits[1]:,}.")


def train(
    model: Annotated[
        str | None, typer.Option("--model", help="The model's id; of the settings if not given.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; it stays with the task.")] = "",
    kind: Annotated[Kind | None, typer.Option(help="What to train.")] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="From the live version's weights, or from nothing.")
    ] = None,
    algorithm: Annotated[str | None, typer.Option(help="One of the kind's.")] = None,
    epochs: Annotated[str | None, _number(EPOCHS, "At the most.")] = None,
    learning_rate: Annotated[str | None, _number(LEARNING_RATE, "At its peak.")] = None,
    train_split_ratio: Annotated[
        str | None, _number(TRAIN_SPLIT_RATIO, "Share of the events before the hold-out.")
    ] = None,
    seed: Annotated[str | None, _number(SEED, "Same data and seed: same version.")] = None,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME|OFFSETS",
            help="Events from then on: 2026-11-01T00:00, Unix seconds, or offsets, "
            '{"clicks": {"0": 1200}}.',
        ),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME|OFFSETS", help="Events before then.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A file of events to train on instead: JSON lines, CSV, Parquet."),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(metavar="JSON", help='How to read it, e.g. {"type": "rating"}.'),
    ] = None,
    with_feedback: Annotated[
        bool, typer.Option("--with-feedback", help="Learn from the lists served, too.")
    ] = False,
    global_data: Annotated[
        bool, typer.Option("--global-data", help="Learn from all models' topics.")
    ] = False,
    params: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=NUMBER", help="Any other training setting."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Train though nothing has changed.")
    ] = False,
    key: Annotated[str | None, typer.Option(help="The same key gives the same task.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of it.")] = False,
) -> None:
    """Retrain on all events, or some; the version goes live.

    Times are local ones unless they have an offset.
    """
    import msgspec

    from headrace.commands import show
    from headrace.commands.output import output
    from headrace.training_requests import request_of

    fields: dict[str, Any] = {
        "reason": reason or None,
        "kind": kind and kind.value,
        "mode": mode and mode.value,
        "algorithm": algorithm,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "train_split_ratio": train_split_ratio,
        "seed": seed,
        "from": _bound(begin, "--from"),
        "to": _bound(end, "--to"),
        "schema": _json(schema, "--schema"),
        "with_feedback": with_feedback or None,
        "global_data": global_data or None,
        "params": _params(params or []),
        "force": force or None,
        "idempotency_key": key,
        "requested_by": "headrace train",
    }
    given = {name: value for name, value in fields.items() if value is not None}
    asked = msgspec.to_builtins(request_of(given))
    console = output()
    with _client() as client:
        task = _ask(client, f"/v1/models/{_model(model)}/train", asked, data)
        if wait:
            task = show.follow_task(client, task, console)
    show.tasks([task], console)


def tasks(
    task_id: Annotated[
        str | None, typer.Argument(metavar="[TASK]", help="One task; all if not given.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show them until Ctrl-C.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Print the end of the task's log.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the task.")] = False,
    status: Annotated[Status | None, typer.Option(help="Those in this status alone.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Those of this kind alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="The newest ones.")] = 100,
) -> None:
    """List the newest trainings: their progress, how they ended."""
    from headrace.commands import show
    from headrace.commands.output import output

    console = output()
    if task_id is None and (log or cancel):
        raise HeadraceError("Name the task: headrace tasks TASK --log, or --cancel.")
    chosen = {"limit": limit, "status": status and status.value, "kind": kind and kind.value}
    query = {name: value for name, value in chosen.items() if value is not None}
    with _client() as client:
        path = "/v1/tasks" if task_id is None else f"/v1/tasks/{quote(task_id, safe='')}"
        if log:
            typer.echo(client.get_text(f"{path}/log"), nl=False)
            return
        if cancel:
            show.tasks([client.delete(path)], console)
            return

        def found() -> list[Any]:
            answer = client.get(path, query if task_id is None else None)
            return list(answer["tasks"]) if task_id is None else [answer]

        if watch:
            show.watch_tasks(found, console)
        else:
            show.tasks(found(), console)


def _ask(client: Client, path: str, asked: dict[str, Any], data: Path | None) -> Any:
    if data is None:
        return client.post(path, asked)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(data.open("rb"))
        except OSError as exc:
            raise HeadraceError(f"{data} cannot be read: {exc.strerror}.") from exc
        return client.post_file(path, asked, "data", data.name, file)


def _bound(given: str | None, option: str) -> Any:
    """Return Unix seconds, offsets, or an ISO time with its offset from UTC.

    Raises `HeadraceError` for what is none of them.
    """
    if given is None:
        return None
    if given.startswith("{"):
        return _json(given, option)
    with contextlib.suppress(ValueError):
        if math.isfinite(seconds := float(given)):
            return seconds
    try:
        # Python 3.10 does not know the Z of UTC.
        moment = datetime.fromisoformat(given.replace("Z", "+00:00"))
    except ValueError as exc:
        raise HeadraceError(
            f"{option} {given} is no time; write 2026-11-01T00:00, Unix seconds, or offsets like "
            '{"clicks": {"0": 1200}}.'
        ) from exc
    return (moment if moment.tzinfo else moment.astimezone()).isoformat()


def _json(given: str | None, option: str) -> Any:
    import msgspec

    try:
        return None if given is None else msgspec.json.decode(given)
    except msgspec.DecodeError as exc:
        raise HeadraceError(f"{option} {given} is not JSON: {exc}.") from exc


def _params(given: list[str]) -> dict[str, float] | None:
    found: dict[str, float] = {}
    for each in given:
        name, _, number = each.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise HeadraceError(f"--param {each} is not NAME=NUMBER.")
    return found or None


def _client() -> Client:
    from headrace.commands.addresses import find_settings

    with extra("local"):
        from headrace.client import Client
    return Client(find_settings(os.environ))


def _model(model: str | None) -> str:
    from headrace.commands.addresses import find_settings

    return quote(model or find_settings(os.environ).model_id, safe="")
