"""Values of Parquet that Python has none for are a matter of their row."""

from __future__ import annotations

from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.errors import HeadraceError
from headrace.importing.sources import Form, Malformed, open_source

AT = datetime(2024, 1, 1, 0, 0, 26, tzinfo=timezone.utc)
FAR = 2**62


def cells(column: pa.Array, folder: Path) -> list[Any]:
    """What is read of a column in a file: each value, or why its row is refused."""
    file = folder / "f.parquet"
    pq.write_table(pa.table({"at": column, "n": pa.array(range(len(column)))}), file)
    with open_source(file, Form()) as source:
        rows = [row.cells for row in source.rows(None)]
    assert len(rows) == len(column)
    return [str(row.error) if isinstance(row, Malformed) else row["at"] for row in rows]


@pytest.mark.parametrize(
    ("kind", "good", "bad", "value"),
    [
        (pa.timestamp("us"), 1_704_067_226_000_000, FAR, AT.replace(tzinfo=None)),
        (pa.timestamp("us", "UTC"), 1_704_067_226_000_000, -FAR, AT),
        (pa.timestamp("ms", "Europe/Zurich"), 1_704_067_226_000, FAR, AT),
        (pa.timestamp("ms"), 1_704_067_226_000, FAR, AT.replace(tzinfo=None)),
        (pa.date32(), 19_723, 10**8, date(2024, 1, 1)),
    ],
    ids=str,
)
def test_a_time_out_of_range_is_refused_with_its_row_alone(
    kind: pa.DataType, good: int, bad: int, value: object, tmp_path: Path
) -> None:
    numbers = pa.array([good, bad, None, good], pa.int32() if kind == pa.date32() else pa.int64())
    first, refused, absent, last = cells(numbers.view(kind), tmp_path)
    assert (first, absent, last) == (value, None, value)
    assert refused.startswith(f"at: {bad} cannot be read as {kind}: ")


def test_a_time_out_of_range_within_a_cell_is_refused_with_its_row(tmp_path: Path) -> None:
    times = pa.array([0, FAR]).view(pa.timestamp("us", "UTC"))
    inside = pa.StructArray.from_arrays([times], ["when"])
    first, refused = cells(inside, tmp_path)
    assert first == {"when": datetime(1970, 1, 1, tzinfo=timezone.utc)}
    assert refused.startswith("at: it cannot be read as struct<when: timestamp[us, tz=UTC]>: ")


def test_text_that_is_not_utf_8_keeps_its_bytes(tmp_path: Path) -> None:
    raw = pa.array([b"a\xff", b"b"], pa.binary())
    texts = pa.StringArray.from_buffers(2, *raw.buffers()[1:])
    assert cells(texts, tmp_path) == ["a\udcff", "b"]


@pytest.mark.parametrize("nested", [False, True])
def test_an_unknown_zone_is_told_with_its_column(nested: bool, tmp_path: Path) -> None:
    times = pa.array([0, 1]).view(pa.timestamp("us", "Foo/Bar"))
    column = pa.StructArray.from_arrays([times], ["when"]) if nested else times
    with pytest.raises(HeadraceError, match="the times of column 'at' are in the zone 'Foo/Bar'"):
        cells(column, tmp_path)
    with open_source(tmp_path / "f.parquet", Form()) as source:
        assert [row.cells for row in source.rows(["n"])] == [{"n": 0}, {"n": 1}]
