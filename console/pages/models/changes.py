"""What changed from one version to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from console import formats

METRICS = {"ndcg_at_10": "NDCG@10", "hr_at_10": "HR@10"}
"""Of the hold-out, those that are shown first."""


def before(version: Mapping[str, Any], versions: Sequence[Mapping[str, Any]]) -> Any:
    """Return the version of the same kind that was made before this one, None of the first."""
    older = [
        each
        for each in versions
        if each["kind"] == version["kind"] and each["created_at"] < version["created_at"]
    ]
    return max(older, key=lambda each: each["created_at"], default=None)


def changed_parameters(
    version: Mapping[str, Any], older: Mapping[str, Any] | None
) -> list[tuple[str, str]]:
    """Return the parameters that differ, each with both values in words."""
    if older is None:
        return []
    now, then = version["parameters"], older["parameters"]
    return [
        (name, f"{_value(then.get(name))} → {_value(now.get(name))}")
        for name in sorted({*now, *then})
        if now.get(name) != then.get(name)
    ]


def answered(versions: Sequence[Mapping[str, Any]]) -> str:
    """Return in words which requests the live version answers."""
    if all(version["share"] is None for version in versions):
        return "all requests"
    return "all requests but those of users to whom the A/B test gives another version"


def measured(version: Mapping[str, Any]) -> Mapping[str, float]:
    """Return a version's metrics, without the gate's where it had no event to measure on."""
    metrics: Mapping[str, float] = version["metrics"]
    verdict = version["verdict"]
    if verdict is None or verdict["events"]:
        return metrics
    return {name: value for name, value in metrics.items() if not name.startswith("gate_")}


def told_of_metric(older: Mapping[str, Any] | None, name: str) -> str:
    """Return in words what a metric was of the version before; nothing if that has it not.

    Each version is measured on a hold-out of its own events, so a difference of two says nothing of
    which one is better: the gate does, on events of both.
    """
    then = older["metrics"].get(name) if older is not None else None
    return "" if then is None else f"the one before: {formats.score(then)}, on its own hold-out"


def changed_data(version: Mapping[str, Any], older: Mapping[str, Any] | None) -> str:
    """Return in words how many events more this version learnt from."""
    if older is None:
        return "the first version"
    more = version["data"]["events"] - older["data"]["events"]
    if more == 0:
        return "as many events as the version before"
    sign = "more" if more > 0 else "fewer"
    return f"{formats.count(abs(more))} {sign} events than the version before"


def _value(value: Any) -> str:
    return "not set" if value is None else formats.exact(value)
