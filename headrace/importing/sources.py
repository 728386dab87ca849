"""Rows of a file: JSON lines, CSV or Parquet, one after the other, whatever the file's length."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, NamedTuple, TypeVar

import msgspec

from headrace.errors import HeadraceError, InvalidEvent
from headrace.events import MAX_BYTES

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""By suffix, the format of a file."""
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_LONGEST = 4 * MAX_BYTES
"""Characters of a line: more than any record has, and no file without lines fills the memory."""
_PARQUET_ROWS = 2_000
_SURROGATE = re.compile("[\ud800-\udfff]")
"""What stands for a byte that is no text."""
_DAMAGED = (OSError, EOFError, UnicodeError, zlib.error, lzma.LZMAError)
"""What reading a compressed file, or text, raises when the file is damaged."""
_NO_VALUE = (ValueError, OverflowError, LookupError)
"""What Arrow raises for a cell that Python has no value for, as a time after the year 9999."""

Text = TypeVar("Text", str, bytes)


@dataclass(frozen=True)
class Form:
    """How a file is written, as a user says it."""

    format: str | None = None
    """One of the values of `FORMATS`; None: the suffix says it."""
    delimiter: str | None = None
    """Between cells of CSV; None: a tab in `.tsv`, else a comma."""
    columns: Sequence[str] | None = None
    """The columns of CSV without a header."""
    encoding: str = "utf-8-sig"
    """Of CSV."""
    utf16: str = "add --encoding utf-16"
    """What is to be done about a file of that encoding, in the words of where it was given."""
    headless: str = "if it has no header, name the columns with --columns"
    """What is to be done about CSV whose first line names no columns."""


class Malformed(NamedTuple):
    """A row that is none."""

    error: InvalidEvent
    text: str
    """What stands there, as far as that can be told."""


class _Unreadable(NamedTuple):
    """A cell of Parquet that Python has no value for."""

    held: Any
    """The number in it, or None."""
    reason: str

    def __str__(self) -> str:
        return "?" if self.held is None else str(self.held)


class Row(NamedTuple):
    """A row, and where it stands."""

    number: int
    """Of the line that it begins on, from 1 on; in Parquet, of the row."""
    cells: dict[str, Any] | Malformed
    """By column."""


@dataclass(frozen=True)
class Source:
    """An open file."""

    columns: list[str] | None
    """None: each row has its own."""
    cells_are_text: bool
    """Whether a number cannot be told from text that reads alike."""
    rows: Callable[[Sequence[str] | None], Generator[Row, None, None]]
    """Yields the rows, with these columns alone if any are given.

    Raises `HeadraceError` where the file is damaged.
    """
    done: Callable[[], int]
    """How many of the file's bytes have been read."""


def format_of(path: Path, form: Form) -> str:
    """Return the format of a file. Raises `HeadraceError` when nothing tells it."""
    if form.format:
        return form.format
    if form.columns or form.delimiter:
        return "csv"
    suffix = _plain(path).suffix.lower()
    if path.is_dir():
        raise HeadraceError(f"{path} is a folder; name the files in it.")
    if suffix not in FORMATS:
        raise HeadraceError(
            f"{path}: {suffix or 'a name without a suffix'} tells no format; give --format."
        )
    return FORMATS[suffix]


def size_of(path: Path) -> int:
    """Return a file's size in bytes. Raises `HeadraceError` when it is not there."""
    try:
        return path.stat().st_size
    except OSError as exc:
        raise _unreadable(path, exc) from exc


@contextmanager
def open_source(path: Path, form: Form) -> Iterator[Source]:
    """Open a file. Raises `HeadraceError` when it cannot be read as what it is said to be."""
    kind = format_of(path, form)
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
            if kind == "parquet":
                source = _parquet(path, raw)
            else:
                stream = stack.enter_context(_decompressed(path, raw))
                source = (_csv if kind == "csv" else _jsonl)(path, raw, stream, form)
        except _DAMAGED as exc:
            raise _unreadable(path, exc) from exc
        yield source


def _jsonl(path: Path, raw: BinaryIO, stream: BinaryIO, _: Form) -> Source:
    def rows(columns: Sequence[str] | None) -> Generator[Row, None, None]:
        for number, line in enumerate(_Lines(stream.readline, b"\n"), start=1):
            text = line.removeprefix(BOM_UTF8).strip() if number == 1 else line.strip()
            if text:
                yield Row(number, _object(text))

    return Source(None, False, _told(path, rows), _told_position(raw))


def _object(line: bytes) -> dict[str, Any] | Malformed:
    try:
        if len(line) > MAX_BYTES:
            raise InvalidEvent("", f"the line is longer than {MAX_BYTES:,} bytes")
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            raise InvalidEvent("", f"not JSON: {exc}") from exc
        if not isinstance(found, dict):
            raise InvalidEvent("", "not a JSON object")
    except InvalidEvent as error:
        return Malformed(error, line[:MAX_BYTES].decode(errors="backslashreplace"))
    return found


def _csv(path: Path, raw: BinaryIO, stream: BinaryIO, form: Form) -> Source:
    delimiter = form.delimiter or ("\t" if _plain(path).suffix.lower() == ".tsv" else ",")
    try:
        # What is no text of the encoding stays recognisable, and only its row is refused.
        text = io.TextIOWrapper(
            stream, encoding=form.encoding, errors="surrogateescape", newline=""
        )
    except LookupError as exc:
        raise HeadraceError(f"{form.encoding!r} is not an encoding.") from exc
    _check_encoding(path, stream, form)
    lines = _Lines(text.readline, "\n")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns = list(form.columns) if form.columns else _header(path, reader, form)

    def rows(_: Sequence[str] | None) -> Generator[Row, None, None]:
        while True:
            number = lines.count + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as exc:
                error = InvalidEvent("", f"not CSV: {exc}")
                yield Row(number, Malformed(error, lines.last[:_LONGEST].rstrip("\r\n")))
                continue
            if len(cells) == len(columns):
                yield Row(number, dict(zip(columns, cells, strict=True)))
            elif cells:
                error = InvalidEvent(
                    "", f"{len(cells)} cells, where there are {len(columns)} columns"
                )
                yield Row(number, Malformed(error, delimiter.join(cells)))

    return Source(columns, True, _told(path, rows), _told_position(raw))


def _check_encoding(path: Path, stream: BinaryIO, form: Form) -> None:
    """Raise `HeadraceError` for a file that says of itself that its encoding is another one."""
    peek = getattr(stream, "peek", None)
    begin = peek(2)[:2] if peek else b""
    if begin in (BOM_UTF16_LE, BOM_UTF16_BE) and "16" not in form.encoding:
        raise HeadraceError(f"{path} is UTF-16; {form.utf16}.")


def _header(path: Path, reader: Iterator[list[str]], form: Form) -> list[str]:
    try:
        columns = next(reader, [])
    except csv.Error as exc:
        raise HeadraceError(f"{path}: its first line is not CSV: {exc}.") from exc
    if any(_SURROGATE.search(column) for column in columns):
        raise HeadraceError(
            f"{path}: its first line is not text of its encoding (UTF-8, if not said)."
        )
    if len(set(columns)) < len(columns) or not all(columns):
        raise HeadraceError(
            f"{path}: its first line does not name each column, but is {','.join(columns)!r}; "
            f"{form.headless}."
        )
    return columns


def _parquet(path: Path, raw: BinaryIO) -> Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(raw)
    except pa.ArrowException as exc:
        reason = str(exc).rstrip(".")
        raise HeadraceError(f"{path} is not a Parquet file: {reason}.") from exc
    total, size = max(file.metadata.num_rows, 1), path.stat().st_size
    count = 0

    def rows(columns: Sequence[str] | None) -> Generator[Row, None, None]:
        nonlocal count
        wanted = None if columns is None else list(columns)
        for column in file.schema_arrow:
            if wanted is None or column.name in wanted:
                _check_zones(path, column.name, column.type)
        try:
            for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
                names = batch.schema.names
                cells = zip(*map(_values, batch.columns), strict=True)
                for number, values in enumerate(cells, start=count + 1):
                    yield Row(number, _row(dict(zip(names, values, strict=True))))
                count += batch.num_rows
        except pa.ArrowException as exc:
            raise HeadraceError(f"{path} is damaged after row {count}: {exc}.") from exc

    return Source(file.schema_arrow.names, False, _told(path, rows), lambda: size * count // total)


def _check_zones(path: Path, name: str, kind: Any) -> None:
    """Raise `HeadraceError` when times of the column are in a zone that is not known."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        try:
            pa.scalar(0, pa.timestamp("s", kind.tz)).as_py()
        except _NO_VALUE as exc:
            raise HeadraceError(
                f"{path}: the times of column {name!r} are in the zone {kind.tz!r}, which is not "
                "known; write them in UTC, or leave the column out."
            ) from exc
    for number in range(kind.num_fields):
        _check_zones(path, name, kind.field(number).type)


def _row(cells: dict[str, Any]) -> dict[str, Any] | Malformed:
    """Return the cells, unless one of them cannot be read."""
    for name, value in cells.items():
        if isinstance(value, _Unreadable):
            text = ", ".join(f"{name}: {value}" for name, value in cells.items())
            return Malformed(InvalidEvent(name, value.reason), text)
    return cells


def _values(column: Any) -> list[Any]:
    """Return a column's values; times as `datetime`, which has no nanoseconds."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        found: list[Any] = column.to_pylist()
    except _NO_VALUE:
        # It is a matter of the row.
        found = [_value(cell) for cell in column]
    return found


def _value(cell: Any) -> Any:
    """Return a cell's value, text that is not UTF-8 with surrogates, or why there is none."""
    import pyarrow as pa

    try:
        return cell.as_py()
    except _NO_VALUE as exc:
        if pa.types.is_string(cell.type) or pa.types.is_large_string(cell.type):
            return cell.cast(pa.large_binary()).as_py().decode(errors="surrogateescape")
        held = getattr(cell, "value", None)
        held = held if isinstance(held, int) else None
        it = "it" if held is None else held
        return _Unreadable(held, f"{it} cannot be read as {cell.type}: {exc}")


class _Lines(Generic[Text]):
    """A stream's lines; of one that is far too long only the beginning, as long as `_LONGEST`."""

    def __init__(self, readline: Callable[[int], Text], newline: Text) -> None:
        self._readline: Callable[[int], Text] = readline
        self._newline: Text = newline
        self.count = 0
        self.last: Text = newline

    def __iter__(self) -> _Lines[Text]:
        return self

    def __next__(self) -> Text:
        line = self._readline(_LONGEST)
        if not line:
            raise StopIteration
        self.count += 1
        self.last = line
        if len(line) == _LONGEST and not line.endswith(self._newline):
            while (more := self._readline(_LONGEST)) and not more.endswith(self._newline):
                pass
            if isinstance(line, str):
                # An error of the row's own: the reader goes on after it.
                raise csv.Error(f"the line is longer than {_LONGEST:,} characters")
        return line


def _decompressed(path: Path, raw: BinaryIO) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if suffix == ".bz2":
        return bz2.BZ2File(raw)
    if suffix == ".xz":
        return lzma.LZMAFile(raw)
    if suffix == ".zst":
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(raw, "zstd"))
    return raw


def _plain(path: Path) -> Path:
    """Return the path without the suffix of its compression."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSED else path


def _told(
    path: Path, rows: Callable[[Sequence[str] | None], Generator[Row, None, None]]
) -> Callable[[Sequence[str] | None], Generator[Row, None, None]]:
    """Return the rows with the errors of a damaged file made ours."""

    def told(columns: Sequence[str] | None) -> Generator[Row, None, None]:
        try:
            yield from rows(columns)
        except _DAMAGED as exc:
            raise _unreadable(path, exc) from exc

    return told


def _told_position(raw: BinaryIO) -> Callable[[], int]:
    return raw.tell if raw.seekable() else lambda: 0


def _unreadable(path: Path, exc: BaseException) -> HeadraceError:
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc) or repr(exc)
    return HeadraceError(f"{path} cannot be read: {reason}.")
