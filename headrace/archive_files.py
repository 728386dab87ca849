"""Parquet files of the archive: writing records to one, and reading them again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.archive import Segment
from headrace.errors import ArchiveInvalid
from headrace.records import Records

GROUP_ROWS = 65_536
_GROUP_BYTES = 8 * 2**20
"""So much is held in memory of a file that is written, and of one that is read."""

SCHEMA = pa.schema(
    (
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.list_(pa.struct({"name": pa.string(), "value": pa.binary()}))),
    )
)
_READ = ("offset", "time", "value")
_OFFSET = SCHEMA.get_field_index("offset")


def table_of(records: Sequence[Any]) -> pa.Table:
    """Return aiokafka's records as a table of `SCHEMA`."""
    columns = (
        [record.offset for record in records],
        np.fromiter((record.timestamp for record in records), "datetime64[ms]", len(records)),
        [record.key for record in records],
        [record.value for record in records],
        [record.headers or None for record in records],
    )
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


class ParquetFile:
    """A file that is being written. It is whole once it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = 0
        self._waiting: list[pa.Table] = []
        self._sink = path.open("wb")
        self._writer = pq.ParquetWriter(
            self._sink,
            SCHEMA,
            compression="zstd",
            use_dictionary=["key"],
            column_encoding={"offset": "DELTA_BINARY_PACKED", "time": "DELTA_BINARY_PACKED"},
            write_statistics=["offset", "time"],
            write_page_checksum=True,
        )

    @property
    def bytes(self) -> int:
        """How long the file is, without what waits to be written."""
        return self._sink.tell()

    def add(self, table: pa.Table) -> None:
        """Append a table of `SCHEMA`."""
        self._waiting.append(table)
        self.records += len(table)
        rows = sum(map(len, self._waiting))
        if rows >= GROUP_ROWS or sum(each.nbytes for each in self._waiting) >= _GROUP_BYTES:
            self._write()

    def close(self) -> int:
        """Write the rest, to the disk itself; return how many bytes the file has."""
        try:
            if self._waiting:
                self._write()
            self._writer.close()
            self._sink.flush()
            os.fsync(self._sink.fileno())
            return self.bytes
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop writing; a file that was not closed is not whole."""
        # Or it would write the end of the file when it is collected.
        self._writer.is_open = False
        self._sink.close()

    def _write(self) -> None:
        group = pa.concat_tables(self._waiting)
        self._waiting = []
        self._writer.write_table(group, row_group_size=len(group))


def read_segment(segment: Segment, wanted: range) -> Iterator[Records]:
    """Yield the records of the file whose offsets are wanted, in order.

    Groups of rows in which none is wanted are not read. Raises `ArchiveInvalid` when what is read
    is damaged, or the file holds other offsets than its name says.
    """
    if segment.is_empty:
        return
    last = segment.offsets.start - 1
    try:
        with pq.ParquetFile(segment.path, page_checksum_verification=True) as file:
            groups = _groups(segment, file.metadata, wanted)
            for batch in file.iter_batches(GROUP_ROWS, row_groups=groups, columns=list(_READ)):
                records = _records(batch, segment.partition)
                last = _check(segment, records.offset, last)
                if part := _within(records, wanted):
                    yield part
    except FileNotFoundError as exc:
        raise ArchiveInvalid(f"{segment.path} was removed while it was read. Run again.") from exc
    except (pa.ArrowException, OSError, KeyError) as exc:
        raise _damaged(segment, str(exc)) from exc


def _groups(segment: Segment, metadata: pq.FileMetaData, wanted: range) -> list[int]:
    """Return which groups of rows may hold offsets that are wanted.

    Raises `ArchiveInvalid` when a group says that it holds other offsets than the file's name does.
    """
    found = []
    for group in range(metadata.num_row_groups):
        told = metadata.row_group(group).column(_OFFSET).statistics
        if told is None or not told.has_min_max:
            # Whoever wrote the file anew may have left them out.
            found.append(group)
            continue
        if told.min < segment.offsets.start or told.max >= segment.offsets.stop:
            raise _other_offsets(segment)
        if told.min < wanted.stop and told.max >= wanted.start:
            found.append(group)
    return found


def _records(batch: pa.RecordBatch, partition: int) -> Records:
    offset, time, value = (batch.column(name) for name in _READ)
    return Records(
        values=value.cast(pa.binary()).to_numpy(zero_copy_only=False).tolist(),
        partition=np.full(len(batch), partition, np.int32),
        offset=offset.cast(pa.int64()).to_numpy(),
        time=time.cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()).to_numpy(),
    )


def _check(segment: Segment, offset: NDArray[np.int64], last: int) -> int:
    """Return the last offset, if all ascend from beyond `last` and stand in the file's name."""
    if len(offset):
        if offset[0] <= last or (np.diff(offset) <= 0).any() or offset[-1] >= segment.offsets.stop:
            raise _other_offsets(segment)
        last = int(offset[-1])
    return last


def _within(records: Records, wanted: range) -> Records | None:
    """Return the records whose offsets are wanted, if any."""
    first, end = np.searchsorted(records.offset, (wanted.start, wanted.stop)).tolist()
    if first >= end:
        return None
    if (first, end) == (0, len(records)):
        return records
    return Records(
        values=records.values[first:end],
        partition=records.partition[first:end],
        offset=records.offset[first:end],
        time=records.time[first:end],
    )


def _other_offsets(segment: Segment) -> ArchiveInvalid:
    return _damaged(segment, "its offsets are not those of its name")


def _damaged(segment: Segment, reason: str) -> ArchiveInvalid:
    offsets = segment.offsets
    return ArchiveInvalid(
        f"{segment.path} is damaged: {reason}. Restore it from a copy. There being none: while "
        f"Kafka still holds offsets {offsets.start} to {offsets.stop}, delete this file and the "
        "later ones of its partition, and run `headrace archive` again; else replace it by an "
        f"empty file {offsets.start}-{offsets.stop}.empty to go on without its records."
    )
