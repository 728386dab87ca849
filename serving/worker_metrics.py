"""Metrics of a server with several processes: whichever is asked tells those of all.

Each writes its own into a folder now and again. All series bear the label `worker`, the process's
id: so a scraper sees each worker's counters, and a worker that was started again is a new one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

_SUFFIX = ".prom"


class WorkerMetrics:
    """The folder in which the workers of a server show each other their metrics."""

    def __init__(self, folder: Path, pid: int) -> None:
        """`pid`: this worker's."""
        self._folder = folder
        self._pid = pid

    def write(self, registry: CollectorRegistry) -> None:
        """Show the others this worker's metrics as they are now."""
        path = self._folder / f"{self._pid}{_SUFFIX}"
        aside = path.with_suffix(".new")
        aside.write_bytes(generate_latest(registry))
        aside.replace(path)

    def expose(self, registry: CollectorRegistry) -> bytes:
        """Return the metrics of all workers that run, in Prometheus's text format."""
        families: dict[str, Metric] = {}
        own = generate_latest(registry).decode()
        for pid, text in ((self._pid, own), *self._others()):
            for family in text_string_to_metric_families(text):
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                merged.samples += [
                    sample._replace(labels={**sample.labels, "worker": str(pid)})
                    for sample in family.samples
                ]
        return generate_latest(_Families(families.values()))

    def _others(self) -> Iterator[tuple[int, str]]:
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            pid = int(path.stem)
            if pid == self._pid:
                continue
            if _runs(pid):
                yield pid, path.read_text(encoding="utf-8")
            else:
                path.unlink(missing_ok=True)


class _Families:
    """What `generate_latest` asks of a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
