"""What of a report is drawn, read from its file and checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from headrace.errors import HeadraceError

Protocol = Literal["leave_one_out", "periods", "stream", "tutorial", "cold"]
Row = Literal["random", "popularity", "sequential_rules", "item_knn", "towers", "product"]
Figures = dict[str, float]


class Main(NamedTuple):
    """The figure by which a protocol is judged."""

    name: str
    """In the report."""
    label: str


MAIN: dict[Protocol, Main] = {
    "leave_one_out": Main("ndcg_at_10", "NDCG@10"),
    "periods": Main("recall_at_20", "Recall@20"),
    "stream": Main("hr_at_10", "HR@10"),
    "tutorial": Main("top_100", "top-100 accuracy"),
    "cold": Main("hr_at_10", "HR@10"),
}


class Timed(NamedTuple):
    """What is drawn against the time of training: how a figure of validation is called in tests."""

    validation: str
    """Its name at a point of a curve."""
    test: str
    """Its name among a row's figures."""
    label: str


TIMED: dict[Protocol, Timed] = {
    "leave_one_out": Timed("ndcg_at_10", "ndcg_at_10", "NDCG@10"),
    "periods": Timed("recall_at_20", "recall_at_20", "Recall@20"),
    "stream": Timed("hr_at_10", "hr_at_10", "HR@10"),
    "tutorial": Timed("hr_at_10", "top_10", "top-10 accuracy"),
}
"""Of cold items validation says nothing: they are not in the training's log."""


class Point(Struct, frozen=True):
    """How far a training had come at one moment."""

    seconds: float
    figures: dict[str, float | None]
    """None is what was not a number."""
    part: int = 0
    """Which period or retraining it belongs to."""


class Curve(Struct, frozen=True):
    """The training of one seed's model."""

    seed: int
    points: list[Point]


class Diagram(Struct, frozen=True):
    """How often what was given a probability came true, bin by bin."""

    predicted: list[float]
    """`[bins]`"""
    observed: list[float]
    """`[bins]`"""
    base_rate: float
    expected_calibration_error: float
    brier_skill: float

    def __post_init__(self) -> None:
        if len(self.predicted) != len(self.observed):
            raise ValueError(
                f"{len(self.predicted)} bins are predicted, {len(self.observed)} observed"
            )


class BySeed(Struct, frozen=True):
    """The figures of each seed's model."""

    product: list[Figures]


class Report(Struct, frozen=True):
    """The fields of a report that are drawn; each row has its protocol's main figure."""

    data: str
    protocol: Protocol
    baselines: dict[Row, Figures]
    by_seed: BySeed
    curves: list[Curve]
    parts: dict[Row, list[Figures]]
    """By row, the figures of each period or block of the stream; none of one without a query."""
    reliability: list[Diagram]
    """Of each seed; empty where no calibration is measured."""

    def __post_init__(self) -> None:
        for row, figures in self._figures():
            if self.main.name not in figures:
                raise ValueError(f"{row} has no {self.main.name}")

    @property
    def main(self) -> Main:
        """The protocol's."""
        return MAIN[self.protocol]

    def tested(self, name: str) -> dict[Row, float]:
        """Return a figure of each row on the test; the product's is the mean of the seeds."""
        found = {row: figures[name] for row, figures in self.baselines.items() if name in figures}
        product = [figures[name] for figures in self.by_seed.product if name in figures]
        if product:
            found["product"] = sum(product) / len(product)
        return found

    def _figures(self) -> Iterator[tuple[Row, Figures]]:
        """Yield all figures that are there, with their rows."""
        yield from self.baselines.items()
        for product in self.by_seed.product:
            yield "product", product
        for row, parts in self.parts.items():
            yield from ((row, part) for part in parts if part)


def read_report(path: Path) -> Report:
    """Read a report. Raises `HeadraceError` for a file that is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as exc:
        raise HeadraceError(f"{path} cannot be read: {exc.strerror}.") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise HeadraceError(
            f"{path} is not a report of `headrace bench quality`: {exc}; give a file that was "
            "written with --json."
        ) from exc
