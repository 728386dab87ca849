"""Reports of benchmarks: where one cannot be written is known before the work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.errors import HeadraceError
from headrace.reports import check_writable, write_json


def test_to_look_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "report.json"
    check_writable(path)
    assert list(tmp_path.iterdir()) == []
    write_json({"n": 1}, path)
    assert json.loads(path.read_text()) == {"n": 1}


def test_a_report_that_is_there_stays_until_the_next_is_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json({"n": 1}, path)
    check_writable(path)
    assert json.loads(path.read_text()) == {"n": 1}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (".", ". is a folder or a device; give the name of a file."),
        ("/dev/null", "/dev/null is a folder or a device; give the name of a file."),
        ("/dev/null/report.json", "/dev/null cannot be made: /dev/null is no folder."),
        ("/proc/report.json", "/proc cannot be written to: "),
    ],
)
def test_where_no_report_can_be_written_is_named(path: str, said: str) -> None:
    with pytest.raises(HeadraceError) as error:
        check_writable(Path(path))
    assert said in str(error.value)


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_json({"data": "d"}, tmp_path / "report.json")
    with pytest.raises(TypeError):
        write_json({"bad": object()}, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == {"data": "d"}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
