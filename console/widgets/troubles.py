"""What is broken, said on a page."""

from __future__ import annotations

from console.errors import Trouble
from console.widgets.html import Tag, box, text


def trouble_card(trouble: Trouble) -> None:
    """Say what is broken, and what to do."""
    with Tag("div", "trouble-card", role="alert"):
        text(trouble.what, "what", tag="p")
        if trouble.cure:
            text(trouble.cure, tag="p")


class Troubles:
    """A place for what is broken and belongs to no panel, until it works again."""

    def __init__(self) -> None:
        self._told: dict[object, Trouble] = {}
        self._box = box("trouble")

    def tell(self, part: object, trouble: Trouble | None) -> None:
        """Say what is broken in a part, or that nothing is any more."""
        if trouble == self._told.get(part):
            return
        self._told.pop(part, None)
        if trouble is not None:
            self._told[part] = trouble
        self._box.clear()
        with self._box:
            for each in dict.fromkeys(self._told.values()):
                trouble_card(each)
