"""The agent that ours is compared with: it takes what Faust hands it, and counts.

Run as a process: `python -m streams.bench.bare FILE`; the count is the file's eight bytes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faust
import numpy as np
from faust.types import TP

from headrace.settings import Settings
from headrace.settings_source import load_settings
from headrace.topics import Topics
from streams.reading import raw_topic, reading_app
from streams.worker import run_app

_SHOWN_S = 0.05


class CountFile:
    """A number in a file, which another process can look at for nothing."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        self._number = np.memmap(path, np.int64, "r+", shape=(1,))

    @property
    def value(self) -> int:
        """The number."""
        return int(self._number[0])

    def show(self, number: int) -> None:
        """Let whoever looks see this number."""
        self._number[0] = number


def create_bare_app(settings: Settings, counted: CountFile) -> faust.App:
    """Return a Faust app whose only agent counts the records of the topics of events."""

    async def from_the_beginning(_: object) -> Mapping[TP, int]:
        return {}

    number = 0

    async def count(stream: Any) -> None:
        nonlocal number
        async for _ in stream.events():
            number += 1

    async def show() -> None:
        counted.show(number)

    app = reading_app(settings, from_the_beginning)
    app.agent(raw_topic(app, *Topics(settings).events), name="events")(count)
    app.timer(_SHOWN_S, name="show")(show)
    return app


def main(path: str) -> None:
    """Count into the file of this path until told to stop."""
    counted = CountFile(Path(path))
    run_app(load_settings(os.environ), lambda settings, _: create_bare_app(settings, counted))


if __name__ == "__main__":
    main(sys.argv[1])
