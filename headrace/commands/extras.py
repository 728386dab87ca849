"""What a command needs beyond the core, and how it is installed when it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.errors import HeadraceError

_BESIDE = {"console": "headrace-client"}
"""By extra, what it needs beside itself: of the same source, and on no index to be named there."""
_OWN = frozenset({"headrace", "streams", "models", "serving", "console"})


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a missing package into the way to install it. Raises `HeadraceError`."""
    try:
        yield
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] in _OWN:
            raise
        raise HeadraceError(
            f"This command needs the package {exc.name}, which is not installed; "
            f"install it with `{how_to_install(name)}`."
        ) from exc


def how_to_install(name: str) -> str:
    """Return the command that installs an extra, with what it needs beside itself."""
    return f"pip install 'headrace[{name}]' {_BESIDE.get(name, '')}".rstrip()
