"""What is told of the figures: the page on the terminal, the summary, the report."""

from __future__ import annotations

import io
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from headrace.local.demo.charts import histogram, nice_ticks
from headrace.local.demo.client import Data, Version
from headrace.local.demo.display import Screen, sparkline
from headrace.local.demo.figures import Figures, Hits
from headrace.local.demo.oracle import Difference
from headrace.local.demo.report import render
from headrace.local.demo.summary import Summary, is_right, rows, summarize, table, write_json
from headrace.local.parts import PartStatus
from headrace.tasks import Task

FIRST, TOTAL = 800, 2_000


@pytest.fixture
def figures() -> Figures:
    """A demo of 2,000 events: every 4th a hit of the model, fewer of the baselines."""
    figures = Figures(Hits(FIRST, TOTAL - FIRST), TOTAL, phase="sending <all>")
    every = {"popularity": 10, "rules": 8, "knn": 5}
    positions = np.arange(FIRST, TOTAL)
    figures.hits.compare({name: positions % n == 0 for name, n in every.items()})
    figures.answered_by("20261122T000000Z-aaaaaa", now=5.0)
    figures.acknowledge(FIRST)
    for position in range(FIRST, TOTAL):
        figures.hits.add(position, model=position % 4 == 0)
        figures.requests.add(float(position), 2.0 if position < 1_900 else 50.0)
        figures.acknowledge(1)
        if position == 1_500:
            figures.answered_by("20261122T000100Z-bbbbbb", now=9.0)
    for ms in (20.0, 30.0, 40.0):
        figures.freshness.add(1_000.0, ms)
    figures.versions = (
        Version("20261122T000100Z-bbbbbb", True, Data(1_500), {"hr_at_10": 0.25}),
        Version("20261122T000000Z-aaaaaa", False, Data(800), {"hr_at_10": 0.2}),
    )
    figures.tasks = (
        Task(
            id="t",
            model_id="m",
            created_at=0.0,
            updated_at=0.0,
            started_at=1_900.0,
            finished_at=2_500.0,
            status="RUNNING",
            step="fit",
            progress=0.5,
        ),
    )
    return figures


@pytest.fixture
def summary(figures: Figures) -> Summary:
    return summarize(figures, applied=TOTAL, differing=[], seconds=125.0, now=3_000.0)


def test_the_summary_by_hand(summary: Summary) -> None:
    assert summary.hr_at_10_model == 0.25
    assert summary.hr_at_10_popularity == 0.1
    assert (summary.hr_at_10_rules, summary.hr_at_10_knn) == (0.125, 0.2)
    assert (summary.events_sent, summary.events_applied) == (TOTAL, TOTAL)
    # 1,100 requests of 2 ms before the training, 100 of 50 ms during it.
    assert (summary.request_ms_p99, summary.request_ms_p50_training) == (2.0, 50.0)
    assert (summary.requests, summary.requests_training) == (1_200, 100)
    assert summary.freshness_ms_p50 == 30.0
    assert summary.freshness_ms_p99 == pytest.approx(39.8)
    assert [
        (model.live_since_event, model.trained_on_events) for model in summary.model_versions
    ] == [
        (0, 800),
        (1_501, 1_500),
    ]
    assert all(row.met for row in rows(summary, events_per_second=200))


def test_the_file_has_the_plain_names(summary: Summary, tmp_path: Path) -> None:
    write_json(summary, tmp_path / "summary.json")
    written = msgspec.json.decode((tmp_path / "summary.json").read_bytes())
    assert written["hr_at_10_model"] == 0.25
    assert written["freshness_ms_p99"] == 39.8
    assert written["model_versions"][1]["metrics"] == {"hr_at_10": 0.25}
    assert {
        *("hr_at_10_popularity", "hr_at_10_rules", "hr_at_10_knn"),
        *("failed_requests", "events_sent", "events_applied"),
        *("sessions_equal", "freshness_ms_p50", "request_ms_p50", "request_ms_p99"),
        *("request_ms_p99_training", "seconds_total", "machine"),
    } <= written.keys()


def test_a_loss_is_not_right_and_a_missed_target_is_told(figures: Figures) -> None:
    figures.failures["POST /v1/events: status 503"] += 2
    lost = summarize(
        figures, applied=TOTAL - 1, differing=[Difference("7", "x")], seconds=400.0, now=0.0
    )
    assert not is_right(lost)
    missed = {row.figure for row in rows(lost, events_per_second=200) if not row.met}
    assert missed == {
        "failed requests",
        "events applied, of those sent",
        "sessions equal to the file's",
        "whole demo",
    }


def test_nothing_measured_is_said_so() -> None:
    empty = summarize(Figures(Hits(0, 0), 0), applied=0, differing=[], seconds=1.0, now=0.0)
    assert empty.hr_at_10_model is None
    lines = rows(empty, events_per_second=200)
    assert "not measured" in {row.reached for row in lines}
    assert render(Figures(Hits(0, 0), 0), empty, lines).startswith("<!doctype html>")


def test_the_report_holds_everything_and_asks_for_nothing(
    figures: Figures, summary: Summary
) -> None:
    page = render(figures, summary, rows(summary, events_per_second=200))
    assert page.count("<svg") == 3
    assert page.count("<desc>") == 3
    for text in (
        "0.250",
        "item-kNN at 0.200",
        "bbbbbb goes live",
        "p99 39.8 ms",
        "GroupLens",
        "2,000 of 2,000",
    ):
        assert text in page
    assert not re.search(r"""(src|href|url)\s*[=(]""", page)
    assert "<script" not in page


def test_notes_and_failures_are_in_the_report_escaped(figures: Figures) -> None:
    figures.notes.append("the worker <died>")
    figures.failures["status 503"] += 3
    summary = summarize(figures, applied=TOTAL, differing=[], seconds=1.0, now=0.0)
    page = render(figures, summary, [])
    assert "<li>the worker &lt;died&gt;</li><li>3 times: status 503</li>" in page


def test_the_page_on_the_terminal(figures: Figures, summary: Summary) -> None:
    figures.lag = 12
    parts = [PartStatus(name="worker", state="ready", since=0.0)]
    output = io.StringIO()
    console = Console(file=output, width=110)
    console.print(Screen(figures, lambda: parts, 0.0).render(65.0))
    console.print(table(rows(summary, events_per_second=200)))
    page = output.getvalue()
    for text in (
        "1:05",
        "sending <all>",
        "worker",
        "ready",
        "2,000 of 2,000",
        "0.250",
        "bbbbbb",
        "1,501",
    ):
        assert text in page
    assert max(len(line) for line in page.splitlines()) <= 110


def test_the_line_where_there_is_no_terminal(figures: Figures) -> None:
    screen = Screen(figures, list, 0.0)
    line = screen.line(65.0)
    for text in (
        "1:05",
        "sending <all>",
        "2,000 events sent",
        "rules 0.125",
        "HR@10 0.250",
        "training 50%, fit",
    ):
        assert text in line


def test_sparkline() -> None:
    # Eight heights for 0 to top: half of it is the fifth, by rounding 3.5 up.
    assert sparkline([0.0, 0.5, 1.0, 2.0], top=1.0) == "▁▅██"


def test_ticks_are_round_numbers() -> None:
    assert nice_ticks(0.0, 0.23) == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2, 0.25])
    assert nice_ticks(80_000, 100_000, 4) == [80_000, 85_000, 90_000, 95_000, 100_000]
    assert nice_ticks(0.0, 0.0)[-1] > 0


def test_a_histogram_of_equal_values_has_one_bar() -> None:
    assert histogram("t", "d", np.full(10, 3.0), x_label="ms").count('class="bar"') == 1
