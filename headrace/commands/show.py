"""Answers of the HTTP API as tables."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

from headrace.client import Client
from headrace.errors import HeadraceError

Json = Mapping[str, Any]
_POLL_S = 0.5
_ID_WIDTH = 32
_BAR_WIDTH = 16
_COLOURS = {
    "SUCCEEDED": "green",
    "REJECTED": "magenta",
    "FAILED": "red",
    "RUNNING": "yellow",
    "CANCELLED": "dim",
}


def recommendations(answer: Json, console: Console) -> None:
    """Show a list of recommendations and where it came from."""
    table = Table("rank", "item", "score", "", box=None)
    for rank, item in enumerate(answer["recommendations"], start=1):
        cold = "new to the model" if item.get("cold") else ""
        table.add_row(str(rank), escape(item["id"]), f"{item['score']:.4f}", cold)
    console.print(table)
    if answer["message"]:
        console.print(escape(answer["message"]))
    model = answer["model"]
    source = f"model {model['id']}, version {model['version']}" if model else "no model yet"
    console.print(f"[dim]{source}; {answer['session']['interactions']} interactions known[/]")


def tasks(found: Iterable[Json], console: Console) -> None:
    """Show tasks, newest first."""
    _print_or("There are no tasks yet; `headrace train` makes one.", _tasks(found), console)


def watch_tasks(read: Callable[[], Iterable[Json]], console: Console) -> None:
    """Show tasks as they are, over and over, until Ctrl-C."""
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while True:
                live.update(_tasks(read()), refresh=True)
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            return


def _tasks(found: Iterable[Json]) -> Table:
    table = _table("task", "model", "status", "created", "", "progress")
    for task in found:
        outcome = " ".join(filter(None, (task["version"], task["error"])))
        place = f" {task['queue_position']}." if "queue_position" in task else ""
        table.add_row(
            f"{task['id']}\n  [dim]{escape(outcome)}[/]" if outcome else task["id"],
            task["model_id"],
            f"[{_COLOURS.get(task['status'], 'default')}]{task['status']}[/]{place}",
            _moment(task["created_at"]),
            ProgressBar(total=1.0, completed=task["progress"], width=_BAR_WIDTH),
            f"{task['progress']:.0%} {escape(task['step'])}",
        )
    return table


def versions(model: Json, found: Json, console: Console) -> None:
    """Show the versions of a model, newest first: metrics, verdicts, and how users take them."""
    k, window = _evaluated(found)
    table = _table("version", "", "created", "events", f"HR@{k}", f"NDCG@{k}", "after", "metrics")
    for version in found["versions"]:
        figures = (
            f"{name} {value:.4g}"
            for name, value in version["metrics"].items()
            if not name.startswith("gate_")
        )
        verdict = version["verdict"]
        said = f"\n[dim]gate: {escape(verdict['reason'])}[/]" if verdict else ""
        table.add_row(
            version["version"],
            _standing(model, version),
            _moment(version["created_at"]),
            f"{version['data']['events']:,}",
            *_figures(version["evaluation"]),
            escape(", ".join(figures)) + said,
        )
    if found["trending"] is not None:
        # It has neither a day nor events of its own.
        table.add_row("trending items", "", "", "", *_figures(found["trending"]), "")
    deleted = " [red]deleted[/]" if model["deleted"] else ""
    console.print(f"[bold]{escape(model['id'])}[/]{deleted}")
    _print_or("  no version yet; `headrace train` makes one.", table, console)
    if window:
        console.print(f"[dim]HR and NDCG: {window} until now, after so many positive events[/]")


def _evaluated(found: Json) -> tuple[int, str]:
    """Return the k of HR@k, and the window in words; no words when nothing was evaluated."""
    rows = [found["trending"], *(version["evaluation"] for version in found["versions"])]
    row = next(filter(None, rows), None)
    return (row["k"], f"{row['window_s'] / 86_400:.3g} days") if row else (10, "")


def _figures(evaluation: Json | None) -> tuple[str, str, str]:
    """Return HR with its standard error, NDCG, and how many events both come from."""
    if evaluation is None:
        return "", "", ""
    events, rate = evaluation["events"], evaluation["hit_rate"]
    error = math.sqrt(rate * (1 - rate) / events)
    return f"{rate:.4f} ±{error:.4f}", f"{evaluation['ndcg']:.4f}", f"{events:,}"


def _standing(model: Json, version: Json) -> str:
    """Return in a word or two what a version is to its model."""
    share = version["share"]
    arm = f" [yellow]{share:.0%}[/]" if share is not None else ""
    return (_role(model, version) + arm).strip()


def _role(model: Json, version: Json) -> str:
    if version["live"]:
        return "[green]live[/], pinned" if version["pinned"] else "[green]live[/]"
    verdict = version["verdict"]
    if verdict and not verdict["accepted"]:
        return "[red]rejected[/]"
    return "before" if version["version"] == model["rollback"] else ""


def follow_task(client: Client, task: Json, console: Console) -> Json:
    """Show a bar until the task has come to its end, and return it as it is then.

    Raises `HeadraceError` when it failed.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task(task["step"], total=1.0)
        while task["status"] in ("QUEUED", "RUNNING"):
            progress.update(bar, completed=task["progress"], description=task["step"])
            time.sleep(_POLL_S)
            task = client.get(f"/v1/tasks/{task['id']}")
    if task["status"] != "SUCCEEDED":
        why = f": {task['error']}" if task["error"] else ""
        raise HeadraceError(
            f"Task {task['id']} {task['status'].lower()}{why} "
            f"(`headrace tasks {task['id']} --log` shows its log)"
        )
    return task


def _table(first: str, *others: str) -> Table:
    """Return a table whose first column holds ids, which are there to be copied whole."""
    table = Table(box=None)
    table.add_column(first, min_width=_ID_WIDTH, overflow="fold")
    for name in others:
        table.add_column(name, no_wrap=name != others[-1])
    return table


def _print_or(instead: str, table: Table, console: Console) -> None:
    if table.row_count:
        console.print(table)
    else:
        console.print(instead)


def _moment(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s).astimezone():%m-%d %H:%M}"
