"""The benchmark of a server beside a training; it trains as whoever gives way, so it takes long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli import app


def test_a_training_beside_a_server_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    ended = CliRunner().invoke(app, ["bench", "training", "--quick", "--json", str(file)])
    assert ended.exit_code == 0, (ended.output, ended.exception)
    report = json.loads(file.read_text())
    [run] = report["runs"]
    assert report["serving_p99_ratio"] == pytest.approx(
        run["during"]["p99_ms"] / run["without"]["p99_ms"], abs=0.001
    )
    assert report["targets"] == {"serving_p99_ratio": "≤ 2"}
    for part in ("without", "during"):
        assert run[part]["requests"] > 0
    assert report["training_s"] > 0
