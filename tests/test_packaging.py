"""What is installed: the pins, the wheel, the images and the installer's refusals."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("headrace", "models", "serving", "streams")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PIN_FILES = {
    "constraints.txt": ("streams", "serving", "training", "local", "tracing"),
    "constraints-serving.txt": ("streams", "serving", "tracing"),
    "constraints-training.txt": ("streams", "serving", "training", "tracing"),
}
PIN = re.compile(
    r"(?P<pin>[a-z0-9.-]+==[\w.]+) ; (?P<marker>[^\\]+)(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
)
PARTS = ("kafka", "redis", "worker", "trainer", "server")


@pytest.mark.parametrize("name", PIN_FILES)
def test_every_pin_has_a_hash_and_no_index_is_named(name: str) -> None:
    assert PIN.sub("", (ROOT / name).read_text()) == ""


@pytest.mark.parametrize("name", PIN_FILES)
@pytest.mark.parametrize("python", PYTHONS)
def test_what_the_project_asks_for_is_pinned_once(name: str, python: str) -> None:
    pins = _pins(name, python)
    for requirement in _asked_for(PIN_FILES[name], python):
        versions = pins[requirement.name]
        assert len(versions) == 1
        assert versions[0] in requirement.specifier


@pytest.mark.parametrize("name", ["constraints-serving.txt", "constraints-training.txt"])
def test_the_images_hold_what_was_tested(name: str) -> None:
    assert set(_lines(name)) <= set(_lines("constraints.txt"))


def test_the_serving_image_holds_no_tensorflow() -> None:
    heavy = {"keras", "tensorflow", "tensorflow-recommenders", "tensorboard", "tf-keras"}
    assert heavy.isdisjoint(_pins("constraints-serving.txt", "3.11"))
    assert heavy <= set(_pins("constraints-training.txt", "3.11"))


def test_the_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    wanted = {
        str(path.relative_to(source))
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file()
    }

    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", *build, str(source)], check=True)

    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert wanted <= held
    assert any(name.endswith("licenses/LICENSE") for name in held)


def test_each_part_of_the_composed_system_is_watched_and_restarted() -> None:
    services = _compose()["services"]
    for part in PARTS:
        assert services[part]["healthcheck"]["test"]
        assert services[part]["restart"] == "unless-stopped"
        assert services[part]["mem_limit"]


def test_the_composed_system_is_published_on_the_loopback_alone() -> None:
    ports = [
        port for service in _compose()["services"].values() for port in service.get("ports", [])
    ]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_composed_system_asks_for_a_key() -> None:
    environment = _compose()["services"]["server"]["environment"]
    assert environment["HEADRACE_API_KEY"].startswith("${HEADRACE_API_KEY:?")


def test_options_after_two_dashes_reach_the_demo() -> None:
    run = subprocess.run(
        ["make", "--dry-run", "demo", "--", "--stay"],
        cwd=ROOT,
        # Without what a `make` that runs this very test has set.
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "headrace demo --stay" in run.stdout


def test_without_a_fitting_python_the_installer_says_so_in_a_line(tmp_path: Path) -> None:
    line = _refusal(tmp_path, python3="exit 1", uname="echo Linux x86_64")
    assert "needs CPython 3.10 to 3.13 with venv and pip" in line


def test_on_another_platform_the_installer_says_so_in_a_line(tmp_path: Path) -> None:
    line = _refusal(tmp_path, python3="exit 1", uname="echo Darwin arm64")
    assert "runs on Linux x86-64 only (this is Darwin arm64)" in line


def _refusal(folder: Path, **programs: str) -> str:
    """Return the one line in which the installer refuses, on a PATH of these programs."""
    for name in ("awk", "bash", "df", "dirname", "cat"):
        (folder / name).symlink_to(shutil.which(name) or name)
    for name, script in programs.items():
        (folder / name).write_text(f"#!{shutil.which('bash')}\n{script}\n")
        (folder / name).chmod(0o755)
    environ = {"PATH": str(folder), "HOME": os.environ.get("HOME", "")}
    run = subprocess.run(
        [str(ROOT / "tools" / "install"), str(folder / "venv")],
        env=environ,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    return line


def _lines(name: str) -> list[str]:
    return [match.group() for match in PIN.finditer((ROOT / name).read_text())]


def _pins(name: str, python: str) -> dict[str, list[str]]:
    """Return the versions of each package that this file pins for this Python."""
    pins: dict[str, list[str]] = {}
    for match in PIN.finditer((ROOT / name).read_text()):
        requirement = Requirement(f"{match['pin']} ; {match['marker']}")
        if _applies(requirement, python):
            (specifier,) = requirement.specifier
            pins.setdefault(requirement.name, []).append(specifier.version)
    return pins


def _asked_for(extras: tuple[str, ...], python: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    asked = [Requirement(line) for line in lines]
    return [each for each in asked if each.name != "headrace" and _applies(each, python)]


def _applies(requirement: Requirement, python: str) -> bool:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


def _compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
