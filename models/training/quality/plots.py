"""Pictures of reports: quality against time, training curves, reliability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import nan
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from headrace.errors import HeadraceError
from models.training.quality.drawn import TIMED, Point, Report, Row, Timed, read_report

_ROWS: dict[Row, tuple[str, str, str]] = {
    "random": ("at random", "#b4782c", ":"),
    "popularity": ("popularity", "#b4782c", ":"),
    "sequential_rules": ("sequential rules", "#9a57b5", "--"),
    "item_knn": ("item-kNN", "#3f9468", "-."),
    "towers": ("towers alone", "#5b8fd9", "-"),
    "product": ("product", "#2f6fd0", "-"),
}
_VALIDATION = "#c8587a"
# Grey on no ground of its own: readable on a light page and on a dark one.
_QUIET = "#7d8794"
_STYLE: Any = {
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _QUIET,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.figsize": (7.2, 3.8),
    "font.size": 10,
    "grid.alpha": 0.25,
    "grid.color": _QUIET,
    "legend.frameon": False,
    "legend.labelcolor": _QUIET,
    "lines.linewidth": 1.8,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    # The same report draws the same file.
    "svg.hashsalt": "headrace",
    "text.color": _QUIET,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
}


def draw(reports: Sequence[Path], out: Path) -> list[Path]:
    """Draw what each report holds into the folder; return the files written.

    `quality-NAME-time.svg`: quality against seconds of training; `-training.svg`: loss and
    validation; `-parts.svg`: by period or by block of the stream; `-reliability.svg`. Raises
    `HeadraceError` for a file that is no report, or a folder that cannot be written to.
    """
    read = [(path, read_report(path)) for path in reports]
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [file for path, report in read for file in _draw(report, _name(path, report), out)]
    except OSError as exc:
        raise HeadraceError(f"{out} cannot be written to: {exc.strerror}.") from exc


def _draw(report: Report, name: str, out: Path) -> Iterator[Path]:
    if any(curve.points for curve in report.curves):
        if (timed := TIMED.get(report.protocol)) is not None:
            yield _save(out / f"{name}-time.svg", lambda axes: _time(axes, report, timed))
        yield _save(out / f"{name}-training.svg", lambda axes: _training(axes, report))
    if report.parts:
        yield _save(out / f"{name}-parts.svg", lambda axes: _parts(axes, report))
    if report.reliability:
        yield _save(out / f"{name}-reliability.svg", lambda axes: _reliability(axes, report))


def _time(axes: Axes, report: Report, timed: Timed) -> None:
    """Quality on validation against time; as lines across, what the test came to."""
    name, label = timed.validation, timed.label
    for curve in report.curves:
        points = [point for point in curve.points if name in point.figures]
        axes.plot(*_curve(points, name), color=_VALIDATION, label=f"validation, seed {curve.seed}")
    for row, figure in report.tested(timed.test).items():
        title, color, dashes = _ROWS[row]
        axes.axhline(figure, color=color, linestyle=dashes, label=f"{title}, test")
    _finish(axes, f"{report.data}: {label} against time", "minutes of training", label)


def _training(axes: Axes, report: Report) -> None:
    label = "validation NDCG@10"
    curve = report.curves[0]
    axes.plot(*_curve(curve.points, "loss"), color=_ROWS["popularity"][1], label="loss")
    axes.set_ylabel("loss")
    right = axes.twinx()
    right.plot(*_curve(curve.points, "ndcg_at_10"), color=_ROWS["product"][1], label=label)
    right.set_ylabel(label)
    lines = [*axes.get_lines(), *right.get_lines()]
    axes.set_title(f"{report.data}: training, seed {curve.seed}")
    axes.set_xlabel("minutes of training")
    axes.grid(visible=True)
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="center right")


def _parts(axes: Axes, report: Report) -> None:
    name, label = report.main
    for row, parts in report.parts.items():
        title, color, dashes = _ROWS[row]
        # A part without a query is a gap in the line.
        found = [part.get(name, nan) for part in parts]
        axes.plot(range(len(parts)), found, dashes, color=color, label=title)
    unit = "period trained up to" if report.protocol == "periods" else "block of the stream"
    _finish(axes, f"{report.data}: {label} over time", unit, label)


def _reliability(axes: Axes, report: Report) -> None:
    found = report.reliability[0]
    top = max(*found.predicted, *found.observed, 1e-9)
    axes.plot([0, top], [0, top], color=_QUIET, linestyle=":", label="what it should be")
    axes.axhline(found.base_rate, color=_QUIET, linestyle="--", label="base rate")
    axes.plot(found.predicted, found.observed, "o-", color=_ROWS["product"][1], label="product")
    title = (
        f"{report.data}: ECE {found.expected_calibration_error:.4f}, "
        f"Brier skill {found.brier_skill:+.4f}"
    )
    _finish(axes, title, "probability served, 15 bins of equal mass", "share that came true")


def _curve(points: Sequence[Point], name: str) -> tuple[list[float], list[float]]:
    """Return minutes and a figure, NaN where a point has none and before another part begins."""
    minutes: list[float] = []
    found: list[float] = []
    for before, point in zip([None, *points], points, strict=False):
        if before is not None and point.part != before.part:
            minutes.append(point.seconds / 60)
            found.append(nan)
        figure = point.figures.get(name)
        minutes.append(point.seconds / 60)
        found.append(nan if figure is None else figure)
    return minutes, found


def _finish(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True)
    axes.legend(fontsize="small", loc="best")


def _name(path: Path, report: Report) -> str:
    """Return how a report's pictures are named: after its data, or, of a path, after the file."""
    return f"quality-{report.data if '/' not in report.data else path.stem}"


def _save(path: Path, fill: Any) -> Path:
    with _styled():
        figure = Figure(layout="constrained")
        fill(figure.add_subplot())
        figure.savefig(path, metadata={"Date": None})
    return path


@contextmanager
def _styled() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield
