"""The command's edges: what it refuses to start on, and what it leaves alone."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.errors import DataUnavailable, HeadraceError, StackError
from headrace.local.demo import main
from headrace.local.demo.main import DemoOptions, run_demo
from headrace.local.folder import DataFolder
from headrace.local.parts import PartStatus


@pytest.fixture
def environ(cache: Path) -> dict[str, str]:
    """The user's variables, with a cache that has the wheel in it."""
    (cache / "headrace").mkdir()
    (cache / "headrace" / "recbole-1.2.1-py3-none-any.whl").hardlink_to(
        cache / "recbole-1.2.1-py3-none-any.whl"
    )
    return {**os.environ, "XDG_CACHE_HOME": str(cache)}


def test_a_taken_port_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"{port}"):
            run_demo(DemoOptions(folder=tmp_path / "demo", port=port), environ)


def test_the_figures_of_an_earlier_demo_do_not_stay(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "not-ours.txt").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StackError):
        run_demo(DemoOptions(folder=tmp_path, port=taken.getsockname()[1]), environ)
    assert not (tmp_path / "summary.json").exists()
    assert (tmp_path / "stack" / "not-ours.txt").exists()


def test_a_demo_that_runs_already_is_left_alone(environ: dict[str, str], tmp_path: Path) -> None:
    running = DataFolder(tmp_path / "demo" / "stack")
    running.take()
    try:
        with pytest.raises(StackError, match="already runs"):
            run_demo(DemoOptions(folder=tmp_path / "demo"), environ)
        assert running.artifacts.is_dir()
    finally:
        running.release()


class Stack:
    """One that is up at once."""

    api_key = "the key"
    url = "http://127.0.0.1:8080"
    statuses = (PartStatus(name="console", state="ready", since=0, about="http://127.0.0.1:8081"),)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass

    async def wait(self) -> None:
        """Nothing ends it here but that the user does."""


def fail_with(error: HeadraceError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the main job fail at once, on a system that is up at once."""

    async def work(*_: object) -> None:
        raise error

    monkeypatch.setattr(main, "LocalStack", Stack)
    monkeypatch.setattr(main, "_work", work)


def test_the_console_is_named_before_the_main_job(
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(StackError("The main job has begun."), monkeypatch)
    with pytest.raises(StackError, match="has begun"):
        run_demo(DemoOptions(folder=tmp_path / "demo", port=0, stay=True), environ)
    told = capsys.readouterr().out
    assert "See it at http://127.0.0.1:8081" in told
    assert "the key\n" in told


def test_a_system_that_is_to_stay_outlives_a_main_job_that_fails(
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(HeadraceError("The training failed."), monkeypatch)
    options = DemoOptions(folder=tmp_path / "demo", port=0, stay=True)
    assert run_demo(options, environ) == 1
    told = capsys.readouterr().out
    assert "no further than" in told
    assert told.index("The training failed.") < told.index("stays up until Ctrl-C")
    with pytest.raises(HeadraceError, match="training failed"):
        run_demo(replace(options, stay=False), environ)


def test_without_data_nothing_is_started(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    nowhere = {**environ, "XDG_CACHE_HOME": str(tmp_path / "empty")}
    with pytest.raises(DataUnavailable):
        run_demo(DemoOptions(folder=tmp_path / "demo", port=0), nowhere)
    assert not (tmp_path / "demo").exists()
