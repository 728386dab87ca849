"""`headrace bench quality`: one protocol from its data to its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from headrace.catalog import Item
from headrace.errors import DataUnavailable, HeadraceError, NothingToTest
from headrace.local.movielens import CREDIT, cache_folder
from headrace.reports import check_writable, write_json
from models.training.quality import cold, leave_one_out, periods, stream, tutorial
from models.training.quality.build import product_model
from models.training.quality.data import read_movielens, read_periods, read_users
from models.training.quality.model import Build, ProtocolMode
from models.training.quality.report import report, table
from models.training.quality.result import Result
from models.training.quality.watch import Watch

NAMES = ("ml-1m", "diginetica", "ml-100k-stream", "ml-100k-tutorial", "ml-100k-cold")
FOLDER_VARIABLE = "HEADRACE_BENCH_DATA"
_USERS_FILE = "ml-1m.lines.txt.xz"


@dataclass(frozen=True)
class QualityOptions:
    """What a user chooses of a run."""

    data: str
    """One of `NAMES`, or the path of a file of users or of a folder of periods."""
    json: Path | None = None
    data_folder: Path | None = None
    """Where `ml-1m/` and `diginetica/` lie; the environment's when None."""
    seeds: int = 1
    with_model: bool = True
    """Train the product's model; else the baselines alone are measured."""
    mode: ProtocolMode = "protocol"
    """How the stream and the periods go from one training to the next."""
    parts: int | None = None
    """Periods tested, or retrainings of the stream, at the most; None for all."""
    skip: int = 0
    """Of the first ones, so many are not made: the first training has all that they would have."""
    params: Mapping[str, float] = field(default_factory=dict)
    """Training parameters in place of the protocol's own, as a training task takes them."""


def run_quality(
    options: QualityOptions,
    environ: Mapping[str, str],
    *,
    build: Build | None = None,
    console: Console | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Run the protocol that belongs to the data, print its rows, and write its report.

    `build` gives other models than the product's. Raises `HeadraceError` when the data cannot be
    had or hold nothing to test, or the report cannot be written.
    """
    console = console or Console()
    if options.json:
        check_writable(options.json)
    watch = Watch(console)
    seeds = range(options.seeds)
    try:
        result = _run(options, environ, build, seeds, watch, console)
    except NothingToTest as exc:
        raise DataUnavailable(f"{options.data} has nothing to test: {exc}") from exc
    content = report(
        result,
        data=options.data,
        mode=options.mode,
        skipped=options.skip,
        seeds=seeds,
        seconds=watch.total,
        by_step=watch.seconds,
        now=clock(),
    )
    console.print(table(content))
    for note in result.notes:
        console.print(note, style="yellow", highlight=False, markup=False)
    if options.json:
        write_json(content, options.json)
        console.print(f"{options.json} has every figure.", highlight=False)


def _run(
    options: QualityOptions,
    environ: Mapping[str, str],
    build: Build | None,
    seeds: range,
    watch: Watch,
    console: Console,
) -> Result:
    def model_of(protocol: str, catalogue: Sequence[Item] = ()) -> Build | None:
        if not options.with_model:
            return None
        return build or product_model(protocol, options.params, catalogue, options.mode)

    if options.data.startswith("ml-100k-") and options.data in NAMES:
        console.print(f"{CREDIT}.", style="dim", highlight=False)
        with watch.step("reading"):
            movielens = read_movielens(cache_folder(environ))
        if options.data == "ml-100k-stream":
            build_stream = model_of("stream", movielens.items)
            return stream.run(
                movielens.log,
                build_stream,
                seeds,
                watch,
                at_most=options.parts,
                skip=options.skip,
            )
        if options.data == "ml-100k-cold":
            return cold.run(movielens, model_of("cold", movielens.items), seeds, watch)
        return tutorial.run(movielens, model_of("tutorial"), seeds, watch)
    path = _path(options, environ)
    if path.is_dir():
        with watch.step("reading"):
            tested = None if options.parts is None else options.skip + options.parts
            parts = read_periods(path).first(tested)
        return periods.run(parts, model_of("periods"), seeds, watch, skip=options.skip)
    with watch.step("reading"):
        log = read_users(path)
    return leave_one_out.run(log, model_of("leave_one_out"), seeds, watch)


def _path(options: QualityOptions, environ: Mapping[str, str]) -> Path:
    """Return where the data lie."""
    if options.data not in NAMES:
        path = Path(options.data)
        # Of an empty text `Path` makes the folder that one stands in.
        if not options.data or not path.exists():
            raise DataUnavailable(
                f"--data {options.data!r} is neither a path nor one of {', '.join(NAMES)}."
            )
        return path
    folder = options.data_folder or environ.get(FOLDER_VARIABLE)
    if not folder:
        raise HeadraceError(
            f"{options.data} is not fetched: say where its folder lies with --data-folder or "
            f"{FOLDER_VARIABLE}."
        )
    path = Path(folder) / options.data
    if options.data == "ml-1m":
        path /= _USERS_FILE
    if not path.exists():
        raise DataUnavailable(f"{path} is not there; choose another folder with --data-folder.")
    return path
