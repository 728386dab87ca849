"""`--no-skips`: a run in which a test was left out is a failed run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="fail when a test was skipped, deselected or expected to fail",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Watch what is left out, if asked to."""
    if config.getoption("--no-skips"):
        config.pluginmanager.register(_NoSkips(), "no-skips")


class _NoSkips:
    def __init__(self) -> None:
        self._left_out: list[str] = []

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self._left_out += [f"{item.nodeid}: deselected" for item in items]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._left_out.append(f"{report.nodeid}: {_reason(report)}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "wasxfail"):
            self._left_out.append(f"{report.nodeid}: expected to fail")
        elif report.skipped:
            self._left_out.append(f"{report.nodeid}: {_reason(report)}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._left_out and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._left_out:
            terminalreporter.section("left out, which --no-skips forbids")
            for line in self._left_out:
                terminalreporter.line(line)


def _reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    # Of a skip: (path, line, reason).
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else "skipped"
