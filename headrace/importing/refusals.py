"""What was refused and why: a bounded summary by kind, and on request every row in a file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from headrace.errors import HeadraceError, InvalidEvent

_REASONS = 50
"""Reasons told one by one; further ones are counted together."""
_FIRST_ROWS = 5
_OTHERS = "other reasons"
# A value named in a reason would make it one of its own for every row.
_VALUE = re.compile(
    r"""(?<!\w)'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?<![\w`])[-+]?(?:[0-9][0-9.,e+-]*|nan\b|inf\b)"""
)
_INDEX = re.compile(r"\[[0-9]+\]")


class Refused(NamedTuple):
    """A row that was refused."""

    file: str
    row: int
    error: InvalidEvent
    data: Any
    """The cells by column, or the text that is no row."""


@dataclass
class Reason:
    """Rows refused for reasons of one kind: the same field and the same rule."""

    kind: str
    """Field and rule, `…` standing for what differs from row to row."""
    example: str
    """The reason of the first one."""
    count: int = 0
    first: list[tuple[str, int]] = field(default_factory=list)
    """File and row of the first ones."""


class RefusedFile:
    """The file that refused rows are written to.

    Each method raises `HeadraceError` when the file cannot be written.
    """

    def __init__(self, path: Path, *, append: bool) -> None:
        """`append`: leave what it holds; else it begins empty."""
        self._path = path
        self._append = append
        self._file: FileIO | None = None

    def open(self) -> FileIO:
        """Create it, or empty it, unless it is open."""
        if self._file is None:
            with self._told():
                self._file = self._path.open("ab" if self._append else "wb", buffering=0)
        return self._file

    def write(self, lines: bytes) -> None:
        """Write lines: all of them, or none where that fails."""
        file = self.open()
        with self._told():
            before = os.fstat(file.fileno()).st_size
            try:
                while lines:
                    lines = lines[file.write(lines) :]
            except OSError:
                with suppress(OSError):  # A device or a pipe has no length.
                    os.ftruncate(file.fileno(), before)
                raise

    def close(self) -> None:
        """Close it if it is open."""
        if self._file is not None:
            with self._told():
                self._file.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the disk's errors in this block into one of ours."""
        try:
            yield
        except OSError as exc:
            raise HeadraceError(
                f"{self._path} cannot be written: {exc.strerror or exc}. Make room, or name "
                "another file with --refused."
            ) from exc


class Refusals:
    """Counts refused rows by kind of reason, and writes each to a file if there is one."""

    def __init__(self, file: RefusedFile | None = None) -> None:
        self._file = file
        self._reasons: dict[str, Reason] = {}

    @property
    def count(self) -> int:
        """How many rows were refused."""
        return sum(reason.count for reason in self._reasons.values())

    @property
    def reasons(self) -> list[Reason]:
        """The reasons, the most frequent one first."""
        return sorted(self._reasons.values(), key=lambda reason: -reason.count)

    def begin(self) -> None:
        """Open the file if there is one. Raises `HeadraceError` when it cannot be written."""
        if self._file is not None:
            self._file.open()

    def add(self, rows: Sequence[Refused]) -> None:
        """Note rows. Raises `HeadraceError`, and notes none, when the file cannot be written."""
        if self._file is not None and rows:
            self._file.write(b"".join(map(_line, rows)))
        for refused in rows:
            self._count(refused)

    def _count(self, refused: Refused) -> None:
        kind = _kind(refused.error)
        if kind not in self._reasons and len(self._reasons) >= _REASONS:
            kind = _OTHERS
        reason = self._reasons.setdefault(kind, Reason(kind, str(refused.error)))
        reason.count += 1
        if len(reason.first) < _FIRST_ROWS:
            reason.first.append((refused.file, refused.row))


def _kind(error: InvalidEvent) -> str:
    field, rule = _INDEX.sub("[…]", error.field), _VALUE.sub("…", error.reason)
    return f"{field}: {rule}" if field else rule


@contextmanager
def open_refusals(
    path: Path | None, sources: Sequence[Path], *, append: bool
) -> Iterator[Refusals]:
    """Keep count of refusals, and write the rows to the file at the path, if one is given.

    The file is as it was until `Refusals.begin`; `append`: what it holds then stays. Raises
    `HeadraceError` when it cannot be closed, or is one of the `sources` that are read.
    """
    if path is None:
        yield Refusals()
        return
    _check_other(path, sources)
    file = RefusedFile(path, append=append)
    try:
        yield Refusals(file)
    except BaseException:
        with suppress(HeadraceError):  # What went wrong first is what is told.
            file.close()
        raise
    file.close()


def _check_other(path: Path, sources: Sequence[Path]) -> None:
    """Raise `HeadraceError` when the file is one of those that are read."""
    for source in sources:
        if path.exists() and source.exists() and path.samefile(source):
            raise HeadraceError(f"--refused {path} is a file that is imported; name another.")


def _line(refused: Refused) -> bytes:
    row = {
        "file": refused.file,
        "row": refused.row,
        "field": refused.error.field,
        "reason": refused.error.reason,
        "data": _encodable(refused.data),
    }
    return msgspec.json.encode(row, enc_hook=str) + b"\n"


def _encodable(value: Any) -> Any:
    """Return the value with every byte that is no text written out."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(str(name)): _encodable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_encodable(each) for each in value]
    return value
