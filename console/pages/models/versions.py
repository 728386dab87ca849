"""One version as the page shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from console import formats
from console.pages.models.changes import (
    METRICS,
    changed_data,
    changed_parameters,
    measured,
    told_of_metric,
)
from console.pages.models.gate import draw_verdict
from console.widgets.html import Tag, box, button, details, text
from console.widgets.parts import Moment
from console.widgets.shared import badge, facts
from headrace_client.types import Evaluation

Version = Mapping[str, Any]


@dataclass(frozen=True)
class Deeds:
    """What can be done with a version; None where the key does not allow it."""

    activate: Callable[[str], Any] | None
    pin: Callable[[str], Any] | None
    delete: Callable[[str], Any] | None


class Served:
    """Where it is said how the lists that a version made fared, which changes all the time."""

    def __init__(self) -> None:
        with box("figure"):
            text("Lists served, rolling", "name", tag="p")
            self._value = text(formats.NO_DATA, "value none", tag="p")
            self._more = text("", "from", tag="p")

    def show(self, found: Evaluation | None) -> None:
        """Say how they fare. None: nothing came after any."""
        if found is None:
            self._value.set_text(formats.NO_DATA).classes(replace="value none")
            self._more.set_text("")
            return
        self._value.set_text(formats.score(found.ndcg)).classes(replace="value")
        self._more.set_text(
            f"NDCG@{found.k} of {formats.events(found.events)}; HR@{found.k} "
            f"{formats.score(found.hit_rate)}"
        )


def draw_version(
    version: Version, older: Version | None, deeds: Deeds, unfolded: set[str]
) -> Served:
    """Draw a version; return where how its lists fared is to be said.

    `unfolded`: versions of which all is shown.
    """
    with Tag("article", "version" + (" is-live" if version["live"] else "")):
        with box("version-head"):
            with box("head-words"):
                _draw_head(version)
            _draw_deeds(version, deeds)
        with box("version-figures"):
            for name, label in METRICS.items():
                _metric(label, version["metrics"].get(name), told_of_metric(older, name))
            served = Served()
            with box("figure"):
                text("Learnt from", "name", tag="p")
                text(formats.events(version["data"]["events"]), "value", tag="p")
                text(changed_data(version, older), "from", tag="p")
        if version["verdict"] is not None:
            draw_verdict(version["verdict"])
        for note in version["notes"]:
            text(note, "muted", tag="p")
        _draw_rest(version, older, unfolded)
    return served


def _draw_head(version: Version) -> None:
    text(version["version"], "mono version-name", tag="h3")
    if version["live"]:
        badge("live", "live")
    if version["share"] is not None:
        badge(f"A/B test: {formats.share(version['share'])} of users", "live")
    if version["pinned"]:
        badge("pinned", "warn")
    verdict = version["verdict"]
    if verdict is not None:
        accepted = verdict["accepted"]
        badge("gate: accepted" if accepted else "gate: rejected", "good" if accepted else "bad")
    badge(version["mode"])
    Moment(version["created_at"])


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


def _metric(label: str, value: float | None, before: str) -> None:
    with box("figure"):
        text(f"{label}, hold-out", "name", tag="p")
        text(formats.score(value), "value" if value is not None else "value none", tag="p")
        if value is not None and before:
            text(before, "from", tag="p")


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
            facts([(name, formats.plain(v)) for name, v in sorted(measured(version).items())])
        with box():
            text("Parameters", tag="h4")
            facts([(name, formats.exact(v)) for name, v in version["parameters"].items()])
