"""What a command needs beyond the core, and how it is installed when it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.errors import HeadraceError

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
            f"install it with `pip install 'headrace[{name}]'`."
        ) from exc
