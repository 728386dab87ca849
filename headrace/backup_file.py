"""The file of a backup: compressed frames, the last of which holds a digest of all before it.

gzip of frames, each being four bytes of length (big endian) and one MessagePack message: a
`Header`, an `Entry` for each key, an `End`. Redis's own serialisation of a key is kept as it is.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Union, cast

import msgspec
from msgspec import Struct

from headrace.errors import HeadraceError

FORMAT = 1
_MOST_BYTES = 2**30
"""Longest frame that is believed."""
_LEVEL = 1
"""Higher ones are several times slower for little: Redis has compressed what is long."""


class Header(Struct, frozen=True, kw_only=True, tag="header"):
    """What the backup is of."""

    format: int = FORMAT
    namespace: str
    redis_version: str
    taken_at: float
    """Unix seconds, when it was begun."""
    positions: dict[str, int]
    """By the name of a place, where workers begin after a restore."""


class Entry(Struct, frozen=True, tag="entry"):
    """A key."""

    name: bytes
    """Without the namespace."""
    ttl_ms: int
    """Milliseconds until it expires; 0: never."""
    payload: bytes
    """What DUMP answers."""


class End(Struct, frozen=True, tag="end"):
    """The last frame."""

    entries: int
    sha256: bytes
    """Of all frames before."""


_decoder = msgspec.msgpack.Decoder(Union[Header, Entry, End])


class BackupWriter:
    """Writes frames."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.entries = 0

    def write(self, message: Header | Entry) -> None:
        """Write a frame."""
        self.entries += isinstance(message, Entry)
        self._write(message)

    def end(self) -> None:
        """Write the last frame."""
        self._write(End(self.entries, self._digest.digest()))

    def _write(self, message: Header | Entry | End) -> None:
        raw = msgspec.msgpack.encode(message)
        frame = len(raw).to_bytes(4, "big") + raw
        self._digest.update(frame)
        self._file.write(frame)


@contextmanager
def writing(path: Path) -> Generator[BackupWriter, None, None]:
    """Write a backup whole or not at all, and make its folder.

    Raises `HeadraceError` when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise HeadraceError(f"{path.parent} cannot be made: {exc.strerror}.") from exc
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as raw:
            # A backup holds what users did.
            os.fchmod(raw.fileno(), 0o600)
            with gzip.GzipFile("", "wb", _LEVEL, raw) as file:
                writer = BackupWriter(cast(BinaryIO, file))
                yield writer
                writer.end()
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(aside, path)
    except OSError as exc:
        raise HeadraceError(f"{path} cannot be written: {exc.strerror or exc}.") from exc
    finally:
        aside.unlink(missing_ok=True)


def check(path: Path) -> tuple[Header, int]:
    """Read a backup to its end; return its header and how many keys it has.

    Raises `HeadraceError` when it is not there, is no backup, is damaged, or was cut.
    """
    digest = hashlib.sha256()
    header: Header | None = None
    entries = 0
    end: End | None = None
    for frame, message in _frames(path):
        if header is None:
            header = _header(path, message)
        elif end is not None:
            raise _damaged(path, "it goes on after its end")
        elif isinstance(message, End):
            end = message
            continue
        else:
            entries += 1
        digest.update(frame)
    if header is None or end is None:
        raise _damaged(path, "it ends too early")
    if end != End(entries, digest.digest()):
        raise _damaged(path, "its digest is another")
    return header, entries


def entries_of(path: Path) -> Iterator[Entry]:
    """Yield the keys of a backup that was checked."""
    for _, message in _frames(path):
        if isinstance(message, Entry):
            yield message


def _frames(path: Path) -> Iterator[tuple[bytes, Header | Entry | End]]:
    try:
        with gzip.open(path, "rb") as file:
            while length := file.read(4):
                size = int.from_bytes(length, "big")
                raw = file.read(size) if size <= _MOST_BYTES else b""
                if len(raw) != size:
                    raise _damaged(path, "a frame is cut")
                yield length + raw, _decoder.decode(raw)
    except FileNotFoundError as exc:
        raise HeadraceError(f"{path} is not there.") from exc
    except (gzip.BadGzipFile, zlib.error, EOFError, msgspec.DecodeError) as exc:
        raise _damaged(path, str(exc)) from exc
    except OSError as exc:
        raise HeadraceError(f"{path} cannot be read: {exc.strerror or exc}.") from exc


def _header(path: Path, message: Any) -> Header:
    if not isinstance(message, Header):
        raise _damaged(path, "it does not begin with a header")
    if message.format != FORMAT:
        raise HeadraceError(
            f"{path} has format {message.format}, this Headrace reads {FORMAT}; restore it with "
            "the version of Headrace that made it."
        )
    return message


def _damaged(path: Path, reason: str) -> HeadraceError:
    return HeadraceError(f"{path} is no backup, or is damaged: {reason}. Nothing was changed.")
