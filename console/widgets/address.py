"""What was chosen on a page, in its address: a reload, a link and Back keep it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlencode

from nicegui.element import Element
from nicegui.events import GenericEventArguments

Query = Mapping[str, str]


class Address(Element, component="address.js"):
    """The query of the page's address."""

    def __init__(self, query: Query, on_gone: Callable[[Query], object] | None = None) -> None:
        """`query`: as the page was opened; `on_gone` is given that of a step gone to with Back.

        Without `on_gone` the page stays as it is, and so does the address.
        """
        super().__init__()
        self.query: Query = dict(query)
        self._on_gone = on_gone
        self._props.update(
            query=urlencode(self.query), steps=0, unsaved=False, stays=on_gone is None
        )
        if on_gone is not None:
            self.on("gone", self._gone)

    def note(self, chosen: Query, *, step: bool = False) -> None:
        """Have the address say what was chosen; what is "" is left out.

        `step`: Back leads to what was there before.
        """
        told = {name: value for name, value in {**self.query, **chosen}.items() if value}
        if told == self.query:
            return
        self.query = told
        self._props["query"] = urlencode(told)
        if step:
            self._props["steps"] += 1

    def guard(self, unsaved: bool) -> None:
        """Have the browser ask before the page is left, or ask no more."""
        if unsaved != self._props["unsaved"]:
            self._props["unsaved"] = unsaved

    def _gone(self, event: GenericEventArguments) -> object:
        gone_to = dict(parse_qsl(str(event.args)))
        if gone_to == self.query:
            # A link within the page is a step of the history, too.
            return None
        self.query = gone_to
        self._props["query"] = urlencode(gone_to)
        return self._on_gone(gone_to) if self._on_gone is not None else None
