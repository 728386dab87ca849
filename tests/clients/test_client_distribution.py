"""`headrace-client` as it is shipped: a wheel that needs no more than it says, least of all us."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

SOURCE = Path(__file__).resolve().parents[2] / "clients" / "python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(SOURCE, folder / "source", ignore=ignored)
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    source = str(folder / "source")
    subprocess.run([sys.executable, "-m", "pip", *build, source], check=True)
    (built,) = folder.glob("headrace_client-*.whl")
    return built


def test_the_wheel_holds_every_module_and_says_that_it_is_typed(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = (SOURCE / "src").rglob("*.py")
    assert {str(path.relative_to(SOURCE / "src")) for path in modules} <= names
    assert "headrace_client/py.typed" in names


def test_it_works_where_nothing_else_is_installed(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    (metadata,) = packages.glob("headrace_client-*.dist-info")
    for needed in _needs(Distribution.at(metadata)):
        _link(needed, packages)
    code = (
        "import importlib.util, headrace_client\n"
        "assert importlib.util.find_spec('headrace') is None\n"
        "headrace_client.Client('http://127.0.0.1:9').close()\n"
    )
    subprocess.run([str(tmp_path / "venv" / "bin" / "python"), "-I", "-c", code], check=True)


def _needs(of: Distribution) -> list[Distribution]:
    """Return the distributions that this one needs, and those that they need."""
    found: dict[str, Distribution] = {}
    open_ones = [of]
    while open_ones:
        for line in open_ones.pop().requires or ():
            requirement = Requirement(line)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and requirement.name not in found:
                found[requirement.name] = distribution(requirement.name)
                open_ones.append(found[requirement.name])
    return list(found.values())


def _link(of: Distribution, packages: Path) -> None:
    """Let another environment have a distribution that is installed here."""
    for top in {path.parts[0] for path in of.files or ()} - {"..", "__pycache__"}:
        if not (packages / top).exists():
            (packages / top).symlink_to(Path(str(of.locate_file(top))))
