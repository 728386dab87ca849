"""The option with which continuous integration forbids a test that is left out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PASSES = "def test_passes():\n    pass\n"


@pytest.mark.parametrize(
    "left_out",
    [
        "import pytest\n@pytest.mark.skip(reason='why')\ndef test_skipped():\n    pass\n",
        "import pytest\n@pytest.mark.xfail\ndef test_fails():\n    assert False\n",
        "import pytest\npytest.importorskip('there_is_no_such_module')\n",
    ],
    ids=["skipped", "expected to fail", "module skipped"],
)
def test_a_test_that_is_left_out_fails_the_run(left_out: str, tmp_path: Path) -> None:
    (tmp_path / "test_left_out.py").write_text(left_out)
    assert _run(tmp_path) == pytest.ExitCode.OK
    assert _run(tmp_path, "--no-skips") == pytest.ExitCode.TESTS_FAILED


def test_a_test_that_is_deselected_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_other():\n    pass\n")
    assert _run(tmp_path, "--no-skips", "-k", "passes") == pytest.ExitCode.TESTS_FAILED


def test_a_run_of_every_test_passes(tmp_path: Path) -> None:
    assert _run(tmp_path, "--no-skips") == pytest.ExitCode.OK


def _run(folder: Path, *options: str) -> int:
    shutil.copy(ROOT / "conftest.py", folder)
    (folder / "test_passes.py").write_text(PASSES)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode
