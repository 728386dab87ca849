"""Files of JSON that a measurement's figures are kept in."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from headrace.errors import HeadraceError


def check_writable(path: Path) -> None:
    """Make the file's folder; find out before hours of work that it could not be written after.

    Raises `HeadraceError`, naming what is in the way.
    """
    if path.exists() and not path.is_file():
        raise HeadraceError(f"{path} is a folder or a device; give the name of a file.")
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise HeadraceError(f"{folder} cannot be made: {exc.strerror}.") from exc
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise HeadraceError(f"{folder} cannot be written to: {exc.strerror}.") from exc


def write_json(content: object, path: Path) -> None:
    """Write the content whole or not at all. Raises `HeadraceError` when it cannot be written."""
    raw = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(raw)
        os.replace(aside, path)
    except OSError as exc:
        aside.unlink(missing_ok=True)
        raise HeadraceError(f"{path} cannot be written: {exc.strerror}.") from exc
