"""Types of messages, made known to msgspec while there is one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import msgspec
from msgspec import Struct


def make_types_known() -> None:
    """Have msgspec look at each `Struct` that is defined by now.

    It does so by itself when one is first decoded, and keeps what it has found; but in 0.22 a
    second thread that decodes the type meanwhile reads what is half made, and the process ends
    with SIGSEGV. So every program calls this once it has imported its parts.
    """
    for each in _below(Struct):
        # Some hold what no message can, and are never decoded.
        with suppress(NameError, TypeError):
            msgspec.json.Decoder(each)


def _below(kind: type[Struct]) -> Iterator[type[Struct]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)
