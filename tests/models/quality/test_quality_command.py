"""The command from its data to its report and its pictures, with a model that is known."""

from __future__ import annotations

import io
import json
import lzma
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from stand_in import NextItem

from headrace.errors import DataUnavailable, HeadraceError
from headrace.events import EventColumns
from headrace.reports import write_json
from models.training.quality.command import QualityOptions, run_quality
from models.training.quality.queries import Queries
from models.training.quality.report import report

USERS, STEPS, ITEMS = 10, 9, 30


class Halves(NextItem):
    """As the stand-in, but of every second seed the answers are backwards."""

    def towers(self, queries: Queries) -> np.ndarray[Any, np.dtype[np.float32]]:
        scores = super().towers(queries)
        return scores if self.seed % 2 == 0 else -scores


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    """Users who walk round a ring of items."""
    lines = [
        " ".join(str(1 + (3 * user + step) % ITEMS) for step in range(STEPS))
        for user in range(USERS)
    ]
    path = tmp_path / "walks.txt.xz"
    path.write_bytes(lzma.compress("\n".join(lines).encode()))
    return path


@pytest.fixture
def periods_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "walks"
    folder.mkdir()
    for period in range(3):
        lines = [
            f"{user} {1 + (user + step) % ITEMS}" for step in range(4) for user in range(ITEMS)
        ]
        (folder / f"period_{period}.txt").write_text("\n".join(lines) + "\n")
    return folder


def run(
    data: Path | str, environ: dict[str, str] | None = None, **options: Any
) -> tuple[str, dict[str, Any]]:
    """Return what the terminal shows and what the report holds."""
    output = io.StringIO()
    console = Console(file=output, width=120)
    chosen = QualityOptions(data=str(data), **options)
    run_quality(chosen, environ or {}, build=Halves, console=console, clock=lambda: 1_700_000_000.0)
    return output.getvalue(), json.loads(options["json"].read_text()) if "json" in options else {}


def test_a_file_of_users_is_left_one_out(users_file: Path, tmp_path: Path) -> None:
    shown, content = run(users_file, json=tmp_path / "out" / "report.json")
    assert content["protocol"] == "leave_one_out"
    assert (content["hr_at_10"], content["ndcg_at_10"]) == (1.0, 1.0)
    assert content["baselines"]["towers"]["mrr_at_20"] == 1.0
    assert content["baselines"]["sequential_rules"]["hr_at_10"] == 1.0
    assert content["baselines"]["popularity"]["hr_at_10"] < 1.0
    assert content["seeds"] == [0]
    assert content["seconds"] >= sum(content["seconds_by_step"].values()) * 0.99
    assert {"reading", "popularity", "sequential rules", "training", "product"} <= set(
        content["seconds_by_step"]
    )
    assert content["peak_rss_mb"] > 10
    assert content["parameters"] == {"width": 1}
    assert content["by_seed"]["chosen"] == [{"seed": 0, "share": 0.0}]
    assert content["notes"] == []
    assert content["chosen_on"] == "nothing"
    assert content["date"] == "2023-11-14T22:13:20+00:00"
    assert content["machine"]["cpus"] > 0
    assert content["curves"][0]["points"][0]["figures"]["loss"] == 1.0
    for row in ("popularity", "sequential rules", "towers alone", "product"):
        assert row in shown


def test_several_seeds_have_a_mean_and_a_spread(users_file: Path, tmp_path: Path) -> None:
    _, content = run(users_file, json=tmp_path / "report.json", seeds=2)
    assert content["seeds"] == [0, 1]
    assert content["parameters"] == {"width": 1}
    assert content["by_seed"]["chosen"] == [{"seed": 0, "share": 0.0}, {"seed": 1, "share": 0.1}]
    first, second = content["by_seed"]["product"]
    assert first["mrr_at_20"] == 1.0
    assert second["mrr_at_20"] < 0.1
    mean = (first["mrr_at_20"] + second["mrr_at_20"]) / 2
    assert content["mrr_at_20"] == pytest.approx(mean)
    # The standard deviation of two values is their distance over the root of 2.
    distance = first["mrr_at_20"] - second["mrr_at_20"]
    assert content["spread"]["product"]["mrr_at_20"] == pytest.approx(distance / 2**0.5)


def test_a_folder_is_gone_through_period_by_period(periods_folder: Path, tmp_path: Path) -> None:
    _, content = run(periods_folder, json=tmp_path / "report.json")
    assert content["protocol"] == "periods"
    assert (content["recall_at_20"], content["mrr_at_20"]) == (1.0, 1.0)
    assert len(content["parts"]["sequential_rules"]) == 2


def test_a_period_without_a_query_is_told(periods_folder: Path, tmp_path: Path) -> None:
    (periods_folder / "period_3.txt").write_text("1 1000\n1 2000\n")
    shown, content = run(periods_folder, json=tmp_path / "report.json")
    assert content["recall_at_20"] == 1.0
    (note,) = content["notes"]
    assert note.startswith("The means leave out period 3: ")
    assert "The means leave out period 3: " in shown
    assert "quality-walks-parts.svg" in _drawn_of(content, tmp_path)


@pytest.mark.parametrize("with_model", [True, False])
def test_data_with_nothing_to_test_are_named(tmp_path: Path, with_model: bool) -> None:
    path = tmp_path / "short.txt"
    path.write_text("1 2\n2 3\n")
    with pytest.raises(DataUnavailable, match=r"short\.txt has nothing to test: the longest "):
        run(path, with_model=with_model)


def test_named_data_are_looked_for_in_their_folder(users_file: Path, tmp_path: Path) -> None:
    (tmp_path / "bench" / "ml-1m").mkdir(parents=True)
    users_file.rename(tmp_path / "bench" / "ml-1m" / "ml-1m.lines.txt.xz")
    environ = {"HEADRACE_BENCH_DATA": str(tmp_path / "bench")}
    _, content = run("ml-1m", environ, json=tmp_path / "report.json", with_model=False)
    assert content["counts"] == {"events": USERS * STEPS, "items": 30, "queries": USERS}
    assert "hr_at_10" not in content
    assert content["seeds"] == []
    with pytest.raises(DataUnavailable, match="diginetica is not there"):
        run("diginetica", environ)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("diginetica", "--data-folder or HEADRACE_BENCH_DATA"),
        ("ml-10m", "--data 'ml-10m' is neither a path nor one of ml-1m, diginetica"),
        ("", "--data '' is neither a path nor one of ml-1m, diginetica"),
    ],
)
def test_data_that_are_not_there_are_named_with_the_cure(data: str, said: str) -> None:
    with pytest.raises(HeadraceError, match=said):
        run(data)


def test_a_report_that_cannot_be_written_is_told_before_the_work(
    users_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(HeadraceError, match="is a folder"):
        run(users_file, json=tmp_path)
    with pytest.raises(HeadraceError, match="cannot be made"):
        run(users_file, json=users_file / "report.json")


def test_the_stream_tells_of_calibration(tmp_path: Path) -> None:
    from stand_in import ring

    from models.training.quality import stream
    from models.training.quality.watch import Watch

    data = _by_first_event(ring(3, 30))
    watch = Watch(Console(file=io.StringIO()))
    result = stream.run(data, NextItem, [0], watch, every=30)
    content = report(result, data="walk", seeds=[0], seconds=1.0, by_step={}, now=0.0)
    (diagram,) = content["reliability"]
    assert sum(diagram["count"]) > 0
    assert diagram["expected_calibration_error"] == content["expected_calibration_error"]
    write_json(content, tmp_path / "stream.json")
    names = _drawn([tmp_path / "stream.json"], tmp_path)
    assert names == {f"quality-walk-{kind}.svg" for kind in _KINDS}


_KINDS = ("time", "training", "parts", "reliability")


def test_pictures_are_drawn_and_are_the_same_each_time(users_file: Path, tmp_path: Path) -> None:
    run(users_file, json=tmp_path / "walks.json")
    assert _drawn([tmp_path / "walks.json"], tmp_path / "a") == {
        "quality-walks-time.svg",
        "quality-walks-training.svg",
    }
    _drawn([tmp_path / "walks.json"], tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert "sequential rules, test" in (tmp_path / "a" / "quality-walks-time.svg").read_text()


def test_what_is_no_report_is_named_before_anything_is_drawn(
    users_file: Path, tmp_path: Path
) -> None:
    run(users_file, json=tmp_path / "walks.json")
    other = tmp_path / "other.json"
    other.write_text('{"protocol":"x","baselines":{}}')
    with pytest.raises(HeadraceError, match=r"other\.json is not a report"):
        _drawn([tmp_path / "walks.json", other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_report_of_baselines_alone_has_no_pictures(users_file: Path, tmp_path: Path) -> None:
    run(users_file, json=tmp_path / "walks.json", with_model=False)
    assert _drawn([tmp_path / "walks.json"], tmp_path) == set()


def test_baselines_need_no_tensorflow(users_file: Path) -> None:
    script = (
        "import sys\n"
        "from headrace.cli import app\n"
        f"app(['bench', 'quality', '--baselines', '--data', {str(users_file)!r}],"
        " standalone_mode=False)\n"
        "heavy = {'tensorflow', 'scann', 'matplotlib'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "sequential rules" in ended.stdout


def _drawn_of(content: dict[str, Any], folder: Path) -> set[str]:
    write_json({**content, "data": "walks"}, folder / "drawn.json")
    return _drawn([folder / "drawn.json"], folder)


def _drawn(reports: list[Path], out: Path) -> set[str]:
    from models.training.quality.plots import draw

    return {path.name for path in draw(reports, out)}


def _by_first_event(data: EventColumns) -> EventColumns:
    order = {item: code for code, item in enumerate(dict.fromkeys(data.item.tolist()))}
    return replace(data, item=np.array([order[item] for item in data.item.tolist()], np.int32))
