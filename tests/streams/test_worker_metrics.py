"""The worker's metrics: what they say, and that the dashboard asks for nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

from events_log import logged

from headrace.dead_letters import Record
from headrace.errors import InvalidEvent
from headrace.settings import Settings
from headrace.topics import Place, TopicId, Topics
from streams.metrics import Metrics
from streams.progress import Progress

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana-workers.json"


def measured() -> str:
    progress = Progress(
        Topics(Settings()), {name: TopicId(name, "id", 2) for name in ("clicks", "ratings")}
    )
    records = [Record("clicks", 1, offset, 0.0, b"ann", b"{}") for offset in (4, 5)]
    progress.applied([logged(0), logged(1), logged(2, kind="click")], ["new", "known", "new"])
    progress.buried([(records[0], InvalidEvent("", "not JSON"))])
    progress.erased(records[1:])
    progress.changed(3)
    progress.done(records)
    metrics = Metrics(progress, lambda: {Place("clicks", "id", 1): 9 - progress.positions[AT]})
    metrics.observe("events", 2, 0.003)
    metrics.starts.inc(7)
    return metrics.expose().decode()


AT = Place("clicks", "id", 1)


def test_they_say_what_became_of_records_and_how_far_the_worker_lags() -> None:
    lines = measured().splitlines()
    for line in (
        'headrace_worker_events_total{outcome="new",topic="ratings"} 1.0',
        'headrace_worker_events_total{outcome="known",topic="ratings"} 1.0',
        'headrace_worker_events_total{outcome="new",topic="clicks"} 1.0',
        'headrace_worker_events_total{outcome="invalid",topic="clicks"} 1.0',
        'headrace_worker_events_total{outcome="erased",topic="clicks"} 1.0',
        'headrace_worker_lag_records{partition="1",topic="clicks"} 3.0',
        "headrace_worker_items_total 3.0",
        "headrace_worker_dead_letters_total 1.0",
        "headrace_worker_starts_total 7.0",
        'headrace_worker_apply_seconds_bucket{agent="events",le="0.005"} 1.0',
        'headrace_worker_apply_seconds_bucket{agent="events",le="0.002"} 0.0',
        'headrace_worker_batch_records_sum{agent="events"} 2.0',
    ):
        assert line in lines or _swapped(line) in lines, line


def _swapped(line: str) -> str:
    """The same with its two labels in the other order."""
    return re.sub(r"\{([^,]+),([^}]+)\}", r"{\2,\1}", line)


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    exposed = set(re.findall(r"^([a-z_]+)(?:\{| )", measured(), re.MULTILINE))
    dashboard = json.loads(DASHBOARD.read_text())
    asked: set[str] = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            asked |= set(re.findall(r"\b(?:headrace|process)_[a-z_]+", target["expr"]))
    assert len(asked) >= 8
    assert asked <= exposed
