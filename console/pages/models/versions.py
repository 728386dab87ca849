"""One version as the page shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from console import formats
from console.pages.models.changes import (
    METRICS,
    changed_data,
    changed_metric,
    changed_parameters,
)
from console.widgets.html import Tag, box, button, details, text
from console.widgets.parts import Moment
from console.widgets.shared import badge, facts

Version = Mapping[str, Any]
_SPAN = 0.05
"""The interval's picture shows differences of at least so much to either side."""


@dataclass(frozen=True)
class Deeds:
    """What can be done with a version; None where the key does not allow it."""

    activate: Callable[[str], Any] | None
    pin: Callable[[str], Any] | None
    delete: Callable[[str], Any] | None


def draw_version(version: Version, older: Version | None, deeds: Deeds, unfolded: set[str]) -> Tag:
    """Draw a version; return where how its lists fared is to be said.

    `unfolded`: versions of which all is shown.
    """
    with Tag("article", "version" + (" is-live" if version["live"] else "")):
        with box("version-head"):
            text(version["version"], "mono version-name", tag="h3")
            if version["live"]:
                badge("live", "live")
            if version["pinned"]:
                badge("pinned", "warn")
            verdict = version["verdict"]
            if verdict is not None:
                accepted = verdict["accepted"]
                badge(
                    "gate: accepted" if accepted else "gate: rejected",
                    "good" if accepted else "bad",
                )
            badge(version["mode"])
            Moment(version["created_at"])
            _draw_deeds(version, deeds)
        with box("version-figures"):
            for name, label in METRICS.items():
                _metric(label, version["metrics"].get(name), changed_metric(version, older, name))
            with box("figure"):
                text("Lists served, rolling", "name", tag="p")
                served = text(formats.NO_DATA, "value none", tag="p")
            with box("figure"):
                text("Learnt from", "name", tag="p")
                text(f"{formats.count(version['data']['events'])} events", "value", tag="p")
                text(changed_data(version, older), "from", tag="p")
        if version["verdict"] is not None:
            _draw_verdict(version["verdict"])
        for note in version["notes"]:
            text(note, "muted", tag="p")
        _draw_rest(version, older, unfolded)
    return served


def _draw_deeds(version: Version, deeds: Deeds) -> None:
    live, pinned = version["live"], version["pinned"]
    with box("version-deeds"):
        _deed("Activate", "", deeds.activate if not live else None, version)
        _deed("Pin", "quiet", deeds.pin if not pinned else None, version)
        _deed("Delete", "quiet danger", deeds.delete if not live else None, version)


def _deed(verb: str, kind: str, deed: Callable[[str], Any] | None, version: Version) -> None:
    if deed is not None:
        name = version["version"]
        button(verb, lambda: deed(name), kind=f"small {kind}", label=f"{verb} {name}")


def _metric(label: str, value: float | None, changed: float | None) -> None:
    with box("figure"):
        text(f"{label}, hold-out", "name", tag="p")
        text(formats.score(value), "value" if value is not None else "value none", tag="p")
        if changed is not None:
            kind = "good" if changed > 0 else "bad" if changed < 0 else ""
            text(f"{formats.change(changed)} to the one before", f"from effect {kind}", tag="p")


def _draw_verdict(verdict: Mapping[str, Any]) -> None:
    with box("gate"):
        text(verdict["reason"], tag="p")
        low, high, middle = verdict["low"], verdict["high"], verdict["difference"]
        words = (
            f"NDCG@10 {formats.points(middle)} % to {verdict['against']}, 95 % interval "
            f"{formats.points(low)} % to {formats.points(high)} %"
        )
        _interval(low, middle, high, words)


def _interval(low: float, middle: float, high: float, words: str) -> None:
    """Draw the interval round nothing changed: zero is in the middle."""

    span = max(_SPAN, abs(low), abs(high))

    def x(value: float) -> float:
        return 100 + 100 * value / span

    kind = "good" if low > 0 else "bad" if high < 0 else ""
    picture = Tag("svg", f"interval {kind}", role="img", aria_label=words)
    picture.attribute("viewBox", "-4 0 208 20")
    with picture:
        Tag("line", "axis", x1=0, x2=200, y1=10, y2=10)
        Tag("line", "axis", x1=100, x2=100, y1=2, y2=18)
        Tag("line", "range", x1=x(low), x2=x(high), y1=10, y2=10)
        Tag("circle", "", cx=x(middle), cy=10, r=4)


def _draw_rest(version: Version, older: Version | None, unfolded: set[str]) -> None:
    data = version["data"]
    with (
        details("Data, parameters and what changed", version["version"], unfolded),
        box("version-rest"),
    ):
        with box():
            text("Data", tag="h4")
            facts(
                [
                    ("oldest event", lambda: Moment(data["from_timestamp"], ago=False)),
                    ("newest event", lambda: Moment(data["to_timestamp"], ago=False)),
                    ("events", formats.count(data["events"])),
                    ("read by this training", formats.count(data["read"] or data["events"])),
                    ("users", formats.count(data["users"])),
                    ("items", formats.count(data["items"])),
                    ("went on from", version["base"] or "nothing: trained in full"),
                ]
            )
        with box():
            text("Changed since the one before", tag="h4")
            changed = changed_parameters(version, older)
            if changed:
                facts(list(changed))
            else:
                first = "This is the first version." if older is None else "No parameter."
                text(first, "muted", tag="p")
        with box():
            text("Metrics", tag="h4")
            facts([(name, formats.plain(v)) for name, v in sorted(version["metrics"].items())])
        with box():
            text("Parameters", tag="h4")
            facts([(name, formats.exact(v)) for name, v in version["parameters"].items()])
