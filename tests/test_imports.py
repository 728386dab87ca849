"""Who imports whom: the four packages, and TensorFlow, which only training may load."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("console", "headrace", "models", "serving", "streams")
TENSORFLOW = ("keras", "tensorflow", "tensorflow_recommenders", "tf_keras")


@pytest.mark.parametrize(
    "statement",
    [
        "import headrace.cli",
        "import streams.worker",
        "import serving.main",
        "from models.retrieval.scann_import import scann_bindings; scann_bindings()",
    ],
)
def test_tensorflow_stays_out(statement: str) -> None:
    assert _loaded(statement).isdisjoint(TENSORFLOW)


def test_the_check_above_sees_tensorflow() -> None:
    assert "tensorflow" in _loaded("import tensorflow")


@pytest.mark.parametrize(
    "module", ["headrace.log", "headrace.replay", "streams.worker", "serving.main"]
)
def test_arrow_stays_out_of_what_runs_for_long(module: str) -> None:
    assert "pyarrow" not in _loaded(f"import {module}")


def test_the_command_line_loads_a_part_only_when_it_runs_it() -> None:
    assert _loaded("import headrace.cli").isdisjoint(("models", "serving", "streams"))


def test_each_part_keeps_to_its_imports() -> None:
    run = _lint_imports(ROOT)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(
    ("module", "statement", "broken"),
    [
        ("headrace/events.py", "import serving", "headrace imports no other part"),
        ("headrace/events.py", "import keras", "TensorFlow is imported only by training"),
        ("streams/worker.py", "import serving", "streams and serving are independent"),
        ("streams/worker.py", "import models.retrieval", "streams knows the vocabulary alone"),
        ("serving/main.py", "import models.training", "streams and serving are independent"),
        ("serving/main.py", "import tensorflow", "TensorFlow is imported only by training"),
        ("models/retrieval/index.py", "import models.training", "retrieval knows the vocabulary"),
        ("console/app.py", "import headrace.settings", "the console knows the public client"),
    ],
)
def test_a_forbidden_import_is_found(
    module: str, statement: str, broken: str, tmp_path: Path
) -> None:
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    source = tmp_path / module
    source.write_text(f"{source.read_text()}\n\ndef late() -> None:\n    {statement}\n")

    run = _lint_imports(tmp_path)

    assert run.returncode == 1, run.stdout
    assert any(line.startswith(broken) and "BROKEN" in line for line in run.stdout.splitlines())


def _loaded(statement: str) -> set[str]:
    """Return the names in `sys.modules` after the statement, in a process of its own."""
    code = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages in this folder."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
