"""The panel of the HTTP calls that a page has made."""

from __future__ import annotations

from console import formats
from console.calls import Call
from console.visit import Visit
from console.widgets.html import Tag, box, text
from console.widgets.parts import CopyButton

_SHOWN = 12


def calls_panel(visit: Visit) -> None:
    """Show the newest calls as lines of curl, and go on doing so."""
    with Tag("section", "panel calls", aria_label="HTTP calls"):
        with box("panel-head"):
            text("HTTP calls", tag="h2")
        with Tag("p", "muted note"):
            text("What this page asked for. ")
            text('eval "$(headrace env)"', "mono", tag="code")
            text(" sets a local stack's address and key in your shell; ")
            text("--data FOLDER", "mono", tag="code")
            text(" names one whose data lie elsewhere than in .headrace.")
        rows = Tag("ol", "call-list")

    def add(call: Call) -> None:
        with rows:
            _row(call).move(target_index=0)
        for old in list(rows.default_slot.children)[_SHOWN:]:
            old.delete()

    visit.calls.on_call = add


def _row(call: Call) -> Tag:
    good = call.status < 400
    with Tag("li") as row, Tag("details", "call"):
        with Tag("summary"):
            text(call.method, "method")
            text(call.path.partition("?")[0], "path")
            text(str(call.status), "badge good" if good else "badge bad")
            text(formats.milliseconds(call.took_ms), "muted took")
        with box("curl"):
            text(call.curl, tag="pre").attribute("tabindex", 0)
            CopyButton(call.curl, f"the curl line of {call.method} {call.path}")
    return row
