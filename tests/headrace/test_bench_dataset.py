"""The benchmark of the dataset: what it reports holds together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.errors import HeadraceError


def test_every_figure_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    ended = CliRunner().invoke(
        app, ["bench", "dataset", "--events", "5000", "--repeats", "2", "--json", str(file)]
    )
    assert ended.exit_code == 0, ended.output
    assert "5,000 records" in ended.output
    report = json.loads(file.read_text())
    assert (report["benchmark"], report["events"], report["repeats"]) == ("dataset", 5_000, 2)
    assert 4_700 < report["kept"] < 5_000
    steps = {"generate", "parse", "sort", "dataset", "total"}
    assert report["seconds"].keys() == report["cpu_seconds"].keys() == steps
    for figure in (*report["seconds"].values(), report["events_per_s"]):
        assert figure["median"] >= 0
        assert figure["spread"] >= 0
    assert report["ratio"] > 0
    assert report["peak_rss_mb"] > 0
    assert report["machine"]["cpus"] >= 1


def test_a_file_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("headrace.commands.bench_dataset.bench_dataset", _no_work)
    ended = CliRunner().invoke(
        app, ["bench", "dataset", "--json", str(tmp_path / "file" / "report.json")]
    )
    assert isinstance(ended.exception, HeadraceError)
    assert "cannot be made" in str(ended.exception)


def test_the_folder_of_the_file_is_made(tmp_path: Path) -> None:
    file = tmp_path / "new" / "report.json"
    ended = CliRunner().invoke(app, ["bench", "dataset", "--events", "100", "--json", str(file)])
    assert ended.exit_code == 0, ended.output
    assert json.loads(file.read_text())["events"] == 100


def _no_work(*_: object) -> None:
    raise AssertionError("The work began.")
