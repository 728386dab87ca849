"""Files of JSON that a measurement's figures are kept in."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from headrace.errors import HeadraceError


def check_writable(path: Path) -> None:
    """Find out before hours of work that the file could not be written after; leave nothing.

    Raises `HeadraceError`, naming what is in the way.
    """
    if path.exists() and not path.is_file():
        raise HeadraceError(f"{path} is a folder or a device; give the name of a file.")
    there = _nearest(path.parent)
    if not there.is_dir():
        raise HeadraceError(f"{path.parent} cannot be made: {there} is no folder.")
    try:
        # A file needs the same permissions as a folder does.
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as exc:
        raise HeadraceError(f"{there} cannot be written to: {exc.strerror}.") from exc


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


def _nearest(folder: Path) -> Path:
    """Return the folder, or else the innermost of those around it that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())
