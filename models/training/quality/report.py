"""The report of a run: a table for the terminal, a file of JSON for everything else."""

from __future__ import annotations

import os
import platform
import resource
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from models.training.metrics import Reliability
from models.training.quality.result import Figures, Result, mean_of

_PACKAGES = (
    "numpy",
    "tensorflow",
    "tensorflow-recommenders",
    "tf-keras",
    "scann",
    "ai-edge-litert",
)
_ROWS = {
    "random": "at random",
    "popularity": "popularity",
    "sequential_rules": "sequential rules",
    "item_knn": "item-kNN on the last 10",
    "towers": "towers alone",
    "product": "product",
}
_MIB = 1024


def report(
    result: Result,
    *,
    data: str,
    mode: str = "protocol",
    skipped: int = 0,
    seeds: Sequence[int],
    seconds: float,
    by_step: Mapping[str, float],
    now: float,
) -> dict[str, Any]:
    """Return everything as built-in types; `now` in Unix seconds.

    The product's figures stand at the top, means over the seeds; those of what it is compared with
    under `baselines`. Without a model its figures are missing.
    """
    baselines = dict(result.baselines)
    if result.towers:
        baselines["towers"] = mean_of(result.towers)
    return {
        "data": data,
        "protocol": result.protocol,
        "mode": mode,
        "skipped": skipped,
        **(mean_of(result.product) if result.product else {}),
        "baselines": baselines,
        "seeds": list(seeds) if result.product else [],
        "spread": {"product": _spread(result.product), "towers": _spread(result.towers)},
        "by_seed": {
            "product": result.product,
            "towers": result.towers,
            "chosen": result.chosen,
        },
        "seconds": seconds,
        "seconds_by_step": dict(by_step),
        "peak_rss_mb": peak_rss_mb(),
        "counts": {name: int(count) for name, count in result.counts.items()},
        "parameters": result.parameters,
        "chosen_on": result.chosen_on,
        "notes": result.notes,
        "parts": result.parts,
        "curves": msgspec.to_builtins(result.curves),
        "reliability": [_diagram(found) for found in result.reliability],
        "machine": machine(),
        "date": datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="seconds"),
    }


def table(content: Mapping[str, Any]) -> Table:
    """Return the rows beside one another for the terminal."""
    rows: dict[str, Figures] = dict(content["baselines"])
    names = list(next(iter(rows.values())))
    if content["seeds"]:
        rows["product"] = {name: content[name] for name in names}
    drawn = Table(title=f"{content['data']}, {content['protocol']}", title_justify="left")
    drawn.add_column("")
    for name in names:
        drawn.add_column(_title(name), justify="right")
    for row, label in _ROWS.items():
        if row in rows:
            drawn.add_row(label, *(f"{rows[row][name]:.4f}" for name in names))
        elif row in ("towers", "product") and not content["seeds"]:
            drawn.add_row(label, *("-" for _ in names), style="dim")
    return drawn


def machine() -> dict[str, Any]:
    """Return what this runs on."""
    return {
        "cpus": os.cpu_count() or 0,
        "model": _cpu_model(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def peak_rss_mb() -> float:
    """Return the most memory that this process has held, in MiB."""
    # Linux counts it in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB


def _spread(figures: Sequence[Figures]) -> Figures:
    """Return the standard deviation of each figure over the seeds; nothing of fewer than two."""
    if len(figures) < 2:
        return {}
    return {name: statistics.stdev(each[name] for each in figures) for name in figures[0]}


def _diagram(found: Reliability) -> dict[str, Any]:
    return {
        "predicted": found.predicted.tolist(),
        "observed": found.observed.tolist(),
        "count": found.count.tolist(),
        "base_rate": found.base_rate,
        "brier": found.brier,
        "expected_calibration_error": found.expected_calibration_error,
        "brier_skill": found.brier_skill,
    }


def _title(name: str) -> str:
    titles = {"moved_by_cold_click": "moved", "hr_at_10_of_all": "HR@10 of all"}
    if name in titles:
        return titles[name]
    kind, _, k = name.rpartition("_")
    known = {"hr_at": "HR@", "ndcg_at": "NDCG@", "recall_at": "Recall@", "mrr_at": "MRR@"}
    return f"{known.get(kind, 'top ')}{k}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
