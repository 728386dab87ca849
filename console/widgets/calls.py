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
            text(f"What this page asked for, the newest {_SHOWN}. ")
            text('eval "$(headrace env)"', "mono", tag="code")
            text(" sets a local stack's address and key in your shell; ")
            text("--data FOLDER", "mono", tag="code")
            text(" names one whose data lie elsewhere than in .headrace.")
        rows = Tag("ol", "call-list")
    shown: dict[int, _Row] = {}

    def show(call: Call) -> None:
        row = shown.get(call.number)
        if row is None and call.took_ms is None:
            with rows:
                row = shown[call.number] = _Row(call)
            row.root.move(target_index=0)
            for old in list(shown)[:-_SHOWN]:
                shown.pop(old).root.delete()
        if row is not None:
            row.answer(call)

    visit.calls.on_call = show


class _Row:
    """One call."""

    def __init__(self, call: Call) -> None:
        path = call.path.partition("?")[0]
        with Tag("li") as self.root, Tag("details", "call"):
            with Tag("summary"):
                text(call.method, "method")
                text(path, "path")
                self._status = text("no answer yet", "badge")
                self._took = text("", "muted took")
            with box("curl"):
                text(call.curl, tag="pre").attribute("tabindex", 0)
                CopyButton(call.curl, f"the curl line of {call.method} {path}")

    def answer(self, call: Call) -> None:
        """Show what came of it, if it is over."""
        if call.took_ms is None:
            return
        self._took.set_text(formats.milliseconds(call.took_ms))
        if call.cancelled:
            self._status.set_text("cancelled by this page")
            return
        is_good = call.status is not None and call.status < 400
        self._status.set_text("no answer" if call.status is None else str(call.status))
        self._status.classes(replace="badge good" if is_good else "badge bad")
