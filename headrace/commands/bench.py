"""The commands that measure: their options made ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from headrace.commands.extras import extra
from headrace.errors import HeadraceError

bench = typer.Typer(help="Measure how good it is, how fast, how large.", no_args_is_help=True)


@bench.command()
def dataset(
    events: Annotated[int, typer.Option(min=1, help="Records of the log.")] = 10_000_000,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="How many times.")] = 1,
    json: Annotated[
        Path | None, typer.Option("--json", help="File for every figure; none if not given.")
    ] = None,
) -> None:
    """Make a training's dataset of a made-up log: time and memory."""
    from rich.console import Console

    from headrace.reports import check_writable, write_json
    from headrace.settings_source import load_settings

    with extra("training"):
        from headrace.commands.bench_dataset import bench_dataset, show
        from models.training.dataset import histories
    if json:
        check_writable(json)
    parameters = load_settings(os.environ).training
    console = Console(stderr=True)
    report = bench_dataset(events, repeats, lambda columns: histories(columns, parameters), console)
    show(report, Console())
    if json:
        write_json(report, json)


@bench.command()
def quality(
    data: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH",
            help="ml-1m, diginetica, ml-100k-stream, ml-100k-tutorial or ml-100k-cold; or a file "
            "of one user a line (leave-one-out), or a folder of period_N files (period by period).",
        ),
    ],
    json: Annotated[
        Path | None, typer.Option("--json", help="File for every figure; none if not given.")
    ] = None,
    data_folder: Annotated[
        Path | None,
        typer.Option(
            envvar="HEADRACE_BENCH_DATA", help="Where the folders ml-1m and diginetica lie."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Models trained, one for each seed from 0 up.")
    ] = 1,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Only what counts: train no model.")
    ] = False,
    mode: Annotated[
        str,
        typer.Option(
            metavar="protocol|full|incremental",
            help="How the stream and the periods go from one training to the next: as the protocol "
            "has it, with a new model on all events, or from the version before on new ones.",
        ),
    ] = "protocol",
    parts: Annotated[
        int | None,
        typer.Option(min=1, help="Periods, or retrainings of the stream, at the most."),
    ] = None,
    skip: Annotated[
        int,
        typer.Option(
            min=0, help="First periods or retrainings to pass over: the first training has them."
        ),
    ] = 0,
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="A training parameter in place of the protocol's; 1 and 0 for yes and no.",
        ),
    ] = None,
) -> None:
    """Run one protocol end to end: baselines, towers alone, product."""
    from headrace.commands.quiet import native_messages_aside

    with extra("training"):
        from models.training.quality.command import QualityOptions, run_quality
    options = QualityOptions(
        data=data,
        json=json,
        data_folder=data_folder,
        seeds=seeds,
        with_model=not baselines,
        mode=_mode(mode),
        parts=parts,
        skip=skip,
        params=dict(map(_number, param or ())),
    )
    with native_messages_aside():
        run_quality(options, os.environ)


@bench.command()
def serving(
    json: Annotated[
        Path | None, typer.Option("--json", help="File for every figure; none if not given.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="How many times.")] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="See that it works: little of everything, once.")
    ] = False,
) -> None:
    """Measure a server beside a plain route: speed, latency, memory, overload."""
    with extra("local"):
        from serving.bench.command import QUICK, Sizes, run_serving
    sizes = QUICK if quick else Sizes(repeats=repeats)
    run_serving(sizes, json, os.environ)


@bench.command()
def training(
    json: Annotated[
        Path | None, typer.Option("--json", help="File for every figure; none if not given.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="How many times.")] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="See that it works: a short training, once.")
    ] = False,
) -> None:
    """Measure a server's latency without a training, and during one on the same machine."""
    with extra("local"):
        from serving.bench.training_command import QUICK, TrainingSizes, run_training
    sizes = QUICK if quick else TrainingSizes(repeats=repeats)
    run_training(sizes, json, os.environ)


@bench.command()
def streams(
    json: Annotated[
        Path | None, typer.Option("--json", help="File for every figure; none if not given.")
    ] = None,
    kafka: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Use this Kafka and start no broker."),
    ] = None,
    events: Annotated[int, typer.Option(min=10_000, help="Of each backlog.")] = 300_000,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="How many times.")] = 3,
    rss_events: Annotated[
        int, typer.Option(min=10_000, help="Events over which a worker's memory is watched.")
    ] = 5_000_000,
    quick: Annotated[
        bool, typer.Option("--quick", help="See that it works: few events, once.")
    ] = False,
) -> None:
    """Measure workers beside a bare Faust agent: speed, freshness, memory."""
    with extra("local"):
        from streams.bench.command import QUICK, Sizes, StreamsOptions, run_streams
    sizes = QUICK if quick else Sizes(events=events, repeats=repeats, rss_events=rss_events)
    run_streams(StreamsOptions(sizes=sizes, json=json, kafka=kafka), os.environ)


@bench.command()
def plots(
    reports: Annotated[list[Path], typer.Argument(help="Files that `bench quality` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("docs"),
) -> None:
    """Draw what runs of `bench quality` came to."""
    with extra("bench"):
        from models.training.quality.plots import draw
    for path in draw(reports, out):
        typer.echo(path)


def _mode(mode: str) -> Literal["protocol", "full", "incremental"]:
    if mode not in ("protocol", "full", "incremental"):
        raise HeadraceError(f"--mode {mode} is none of protocol, full, incremental.")
    return cast(Literal["protocol", "full", "incremental"], mode)


def _number(param: str) -> tuple[str, float]:
    name, _, value = param.partition("=")
    try:
        return name, float(value)
    except ValueError as exc:
        raise HeadraceError(f"--param {param} is not NAME=NUMBER.") from exc
