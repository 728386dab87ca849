"""Components of the console's own, each with a small script beside this file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from nicegui.element import Element
from nicegui.events import GenericEventArguments

# Registers ECharts, which comes in NiceGUI's wheel, under the name that chart.js imports.
import nicegui.elements.echart  # noqa: F401  # isort: skip

FieldKind = Literal["text", "number", "search", "select", "range", "checkbox", "textarea"]


class Moment(Element, component="moment.js"):
    """A time as the browser's own clock and language have it, of 24 hours, and how long ago."""

    def __init__(self, at: float | None, *, ago: bool = True) -> None:
        """`at`: Unix seconds."""
        super().__init__()
        self._props["at"] = at
        self._props["ago"] = ago

    def set(self, at: float | None) -> None:
        """Show another time."""
        self._props["at"] = at


class CopyButton(Element, component="copy.js"):
    """Copies a text."""

    def __init__(self, text: str, name: str) -> None:
        """`name`: what it copies, for screen readers."""
        super().__init__()
        self._props["text"] = text
        self._props["name"] = name


class Field(Element, component="field.js"):
    """An input with its label, a hint, and what is wrong with the value as it is typed."""

    def __init__(
        self,
        label: str,
        *,
        kind: FieldKind = "text",
        value: Any = "",
        hint: str = "",
        options: Mapping[str, str] | None = None,
        on_change: Callable[[Any], Any] | None = None,
        least: float | None = None,
        most: float | None = None,
        step: float | None = None,
        suggestions: Sequence[str] = (),
    ) -> None:
        """`options`: of a select, what each value is called."""
        super().__init__()
        self.value = value
        self._props.update(
            label=label,
            kind=kind,
            value=value,
            serial=0,
            hint=hint,
            options=[{"value": key, "label": name} for key, name in (options or {}).items()],
            least=least,
            most=most,
            step=step,
            suggestions=list(suggestions),
            error="",
        )
        self._on_change = on_change
        self.on("change", self._changed)

    def _changed(self, event: GenericEventArguments) -> Any:
        self.value = event.args
        return self._on_change(event.args) if self._on_change is not None else None

    def set(self, value: Any) -> None:
        """Show another value."""
        self.value = value
        self._props["value"] = value
        # Whatever was typed since: the value may be the one that was shown before that.
        self._props["serial"] += 1

    def set_options(self, options: Mapping[str, str]) -> None:
        """Offer other values."""
        self._props["options"] = [{"value": key, "label": name} for key, name in options.items()]

    def set_error(self, words: str) -> None:
        """Say what is wrong with the value; nothing with no words."""
        self._props["error"] = words


class Dialog(Element, component="dialog.js"):
    """A question over the page. The browser keeps the focus in it, and Escape closes it."""

    def __init__(self, title: str, on_close: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self._props["title"] = title
        self._props["open"] = False
        self._on_close = on_close
        self.on("close", self._closed, [])

    def open(self) -> None:
        """Show it."""
        self._props["open"] = True

    def close(self) -> None:
        """Hide it."""
        self._props["open"] = False

    def _closed(self) -> None:
        if self._props["open"]:
            self._props["open"] = False
        self._on_close()


class Chart(Element, component="chart.js"):
    """A chart of ECharts, drawn on a canvas in the page's own colours.

    The unit of numbers stands over their axis, and in tips; tips are drawn too, so no text of data
    is markup.
    """

    def __init__(self, label: str, options: Mapping[str, Any], *, unit: str = "") -> None:
        """`label`: what it shows, for screen readers; `options`: of ECharts, without functions."""
        super().__init__()
        self._props["label"] = label
        self._props["options"] = dict(options)
        self._props["unit"] = unit

    def set(self, options: Mapping[str, Any], label: str) -> None:
        """Draw other data, and say what they show."""
        # Whoever reads a tip in it keeps it.
        if options != self._props["options"]:
            self._props["options"] = dict(options)
        self._props["label"] = label
