"""A file of events to train on instead of the topics: how it is named, kept and read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from headrace.errors import HeadraceError, InvalidEvent
from headrace.importing.layout import Hints, Layout, Shaper
from headrace.importing.records import RecordMaker
from headrace.importing.sources import COMPRESSED, FORMATS, Form, Malformed, open_source
from headrace.records import Batch, Records
from headrace.settings import Settings
from headrace.topics import Topics

_ROWS = 10_000
"""Rows of a batch."""
_Column = Annotated[str, Meta(min_length=1, max_length=256)]


_HINTS = Hints(
    keep='schema: {{"columns": {{"{name}": "{column}"}}}}',
    leave_out='schema: {{"leave_out": ["{column}"]}}',
    kind="schema.type",
    dates='schema: {"time_unit": "iso"}',
)


class DataSchema(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the rows of a file of events are, as `headrace import` takes it."""

    format: Literal["jsonl", "csv", "parquet"] | None = None
    """None: the file's name says it."""
    type: Literal["click", "rating", "purchase"] | None = None
    """Of all rows; None: each row has a `type`."""
    columns: Annotated[dict[_Column, _Column], Meta(max_length=64)] = {}
    """By field of an event, the column that holds it, where its name is another."""
    constants: Annotated[dict[_Column, str], Meta(max_length=64)] = {}
    """By field, what it is in rows that do not say."""
    leave_out: Annotated[tuple[_Column, ...], Meta(max_length=1_000)] = ()
    """Columns that are not read; `*`: all that are no field and not named."""
    time_unit: Literal["s", "ms", "us", "iso"] = "s"
    """Of the timestamp."""
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] | None = None
    """Between the cells of CSV."""


class DataFile(Struct, frozen=True, kw_only=True):
    """A file that was uploaded for one task."""

    name: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}(\.[a-z]{1,7}){1,2}(?!\n)$")]
    """Under which it is kept."""
    bytes: int
    sha256: str
    schema: DataSchema


def kept_name(task_id: str, file_name: str, schema: DataSchema) -> str:
    """Return under which name a task's file is kept.

    Raises `InvalidEvent` for a file whose format nothing tells.
    """
    path = Path(file_name.lower())
    compressed = path.suffix if path.suffix in COMPRESSED else ""
    suffix = (path.with_suffix("") if compressed else path).suffix
    if suffix not in FORMATS:
        if schema.format is None:
            raise InvalidEvent(
                "data",
                f"nothing tells the format of {file_name[:100]!r}; name it like events.jsonl, "
                "events.csv or events.parquet, or send `schema.format`",
            )
        suffix = f".{schema.format}"
    return f"{task_id}{suffix}{compressed}"


def kept_file(fields: object) -> DataFile | None:
    """Return the file that a task tells of in its `params.data`, if it does."""
    return None if fields is None else msgspec.convert(fields, DataFile)


def check_schema(schema: DataSchema) -> None:
    """Raise `InvalidEvent` for one by which no file could be read."""
    try:
        Shaper(_layout(schema), schema.type, cells_are_text=True)
    except HeadraceError as exc:
        raise InvalidEvent("schema", str(exc)) from exc


def read_data(
    path: Path, schema: DataSchema, settings: Settings, received_at: float
) -> Iterator[tuple[Batch, int, InvalidEvent | None]]:
    """Yield the file's events as records of the topics, with how many rows were refused meanwhile,
    and why the first of them was. Blocks.

    `received_at`: Unix seconds, after which no event may be. A row's number stands for its offset.
    Raises `HeadraceError` when the file is gone, damaged, or has columns that have no place.
    """
    topics = Topics(settings)
    form = Form(
        format=schema.format,
        delimiter=schema.delimiter,
        utf16="send it as UTF-8",
        headless="send it with a header",
    )
    with _unnamed(path), open_source(path, form) as source:
        shaper = Shaper(_layout(schema), schema.type, cells_are_text=source.cells_are_text)
        columns = None if source.columns is None else shaper.check_columns(source.columns)
        if columns is not None and schema.type is None and not shaper.says_type(columns):
            raise HeadraceError("Nothing says what the rows of the data are; send `schema.type`.")
        maker = RecordMaker(shaper, schema.type, topics)
        rows: dict[str, list[tuple[int, bytes]]] = {topic: [] for topic in topics.kinds}
        refused, why, waiting = 0, None, 0
        for number, cells in source.rows(columns):
            try:
                if isinstance(cells, Malformed):
                    raise cells.error
                record = maker.make(cells, number, received_at=received_at)
                rows[_event_topic(topics, record.topic)].append((number, record.value or b""))
            except InvalidEvent as error:
                refused, why = refused + 1, why or error
            waiting += 1
            if waiting >= _ROWS:
                yield from _batches(rows, received_at, refused, why)
                refused, why, waiting = 0, None, 0
        yield from _batches(rows, received_at, refused, why)


@contextmanager
def _unnamed(path: Path) -> Iterator[None]:
    """Keep out of errors where the file lies: who sent it knows it by another name."""
    try:
        yield
    except HeadraceError as exc:
        raise HeadraceError(str(exc).replace(str(path), "The file of events")) from exc


def _layout(schema: DataSchema) -> Layout:
    return Layout(
        columns=schema.columns,
        constants=schema.constants,
        left_out=frozenset(schema.leave_out),
        time_unit=schema.time_unit,
        hints=_HINTS,
    )


def _event_topic(topics: Topics, name: str) -> str:
    topic = topics.plain(name)
    if topic not in topics.kinds:
        raise InvalidEvent("type", "is an item, which is no event; import it into the catalogue")
    return topic


def _batches(
    rows: dict[str, list[tuple[int, bytes]]],
    received_at: float,
    refused: int,
    why: InvalidEvent | None,
) -> Iterator[tuple[Batch, int, InvalidEvent | None]]:
    """Yield what has been gathered, of each topic, and gather anew."""
    for topic, some in rows.items():
        count = len(some)
        records = Records(
            values=[value for _, value in some],
            partition=np.zeros(count, np.int32),
            offset=np.fromiter((number for number, _ in some), np.int64, count),
            time=np.full(count, int(received_at * 1000), np.int64),
        )
        yield Batch(topic, "", records), refused, why
        refused, why = 0, None
        some.clear()
