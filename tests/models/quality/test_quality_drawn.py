"""What of a report is drawn, and what is said of a file that holds something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import HeadraceError
from models.training.quality.drawn import read_report

FIGURES = {"hr_at_10": 0.5, "ndcg_at_10": 0.25}


def content(**other: Any) -> dict[str, Any]:
    """A report with some of its fields replaced."""
    return {
        "data": "walk",
        "protocol": "stream",
        "baselines": {"popularity": FIGURES},
        "by_seed": {"product": [FIGURES, {"hr_at_10": 0.7}]},
        "curves": [{"seed": 0, "points": [{"seconds": 1.0, "figures": {"loss": None}}]}],
        "parts": {"popularity": [FIGURES, {}]},
        "reliability": [
            {
                "predicted": [0.1],
                "observed": [0.2],
                "base_rate": 0.1,
                "expected_calibration_error": 0.1,
                "brier_skill": -0.1,
            }
        ],
        "date": "not drawn",
        **other,
    }


def read(tmp_path: Path, content: Any) -> Any:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(content))
    return read_report(path)


def test_what_is_drawn_is_read_and_the_rest_passed_over(tmp_path: Path) -> None:
    report = read(tmp_path, content())
    assert report.main.name == "hr_at_10"
    assert report.tested("hr_at_10") == {"popularity": 0.5, "product": pytest.approx(0.6)}
    assert report.parts["popularity"][1] == {}


def test_a_report_without_a_model_has_no_product(tmp_path: Path) -> None:
    assert read(tmp_path, content(by_seed={"product": []})).tested("hr_at_10") == {
        "popularity": 0.5
    }


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"protocol": "x"}, "Invalid enum value 'x' - at `$.protocol`"),
        ({"baselines": {"x": FIGURES}}, "Invalid enum value 'x'"),
        ({"parts": None}, "`$.parts`"),
        ({"baselines": {"popularity": {}}}, "popularity has no hr_at_10"),
        ({"by_seed": {"product": [{"top_1": 1}]}}, "product has no hr_at_10"),
        ({"parts": {"item_knn": [{"top_1": 1}]}}, "item_knn has no hr_at_10"),
        ({"reliability": [{"predicted": [1]}]}, "`$.reliability[0]`"),
        (
            {"reliability": [{**content()["reliability"][0], "predicted": [0.1, 0.2]}]},
            "2 bins are predicted, 1 observed",
        ),
    ],
)
def test_what_is_wrong_in_a_report_is_named(
    tmp_path: Path, other: dict[str, Any], said: str
) -> None:
    with pytest.raises(HeadraceError) as error:
        read(tmp_path, content(**other))
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'report.json'} is not a report of ")
    assert said in message
    assert message.endswith("give a file that was written with --json.")


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"protocol": 1}', b'{"data": "\xff"}', b"\xff"]
)
def test_a_file_that_is_no_report_is_named(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(raw)
    with pytest.raises(HeadraceError, match=r"other\.json is not a report"):
        read_report(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadraceError, match=r"none\.json cannot be read: No such file"):
        read_report(tmp_path / "none.json")
