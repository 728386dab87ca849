"""The lists that users were served, as columns: what trainings read of the topic `impressions`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Annotated

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from msgspec import Meta, Struct
from numpy.typing import NDArray

from headrace.columns import recode
from headrace.erased_rows import not_erased
from headrace.erasure_log import read_erasures
from headrace.erasures import Erasures
from headrace.events import UserId
from headrace.impressions import MAX_BYTES, ImpressionId, settled_s
from headrace.records import Batch, Records
from headrace.replay import plan_replay, run_replay
from headrace.settings import Settings
from headrace.topics import IMPRESSIONS
from headrace.versions import ListsSpan


@dataclass(frozen=True)
class ServedLists:
    """n lists of known users, sorted by (time, id), each id once.

    The items of list i are `item[start[i]:start[i + 1]]`, best first.
    """

    user: NDArray[np.int32]
    """`[n]`: codes into `user_ids`."""
    served_at: NDArray[np.float64]
    """`[n]`: Unix seconds."""
    start: NDArray[np.int64]
    """`[n + 1]`."""
    item: NDArray[np.int32]
    """Codes into `item_ids`."""
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    open_from: Mapping[str, int] = field(default_factory=dict)
    """By partition, the offset of the first list that was served after `open_after`."""

    def __len__(self) -> int:
        return len(self.user)

    def only(self, kept: NDArray[np.bool_]) -> ServedLists:
        """Return some of the lists; `kept`: `[n]`."""
        lengths = np.diff(self.start)
        return replace(
            self,
            user=self.user[kept],
            served_at=self.served_at[kept],
            start=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[kept])]),
            item=self.item[np.repeat(kept, lengths)],
        )


def read_served_lists(
    settings: Settings,
    span: ListsSpan,
    models: Collection[str],
    progress: Callable[[float], None] = lambda _: None,
    *,
    since: ListsSpan | None = None,
    begin: float | None = None,
    end: float | None = None,
    open_after: float = np.inf,
) -> ServedLists:
    """Return the lists that these models served to users, from archive and topic. Blocks.

    `since`: where to begin; what was before is not read. Lists served before `begin` and from `end`
    on, Unix seconds, are left out; so are those of users who were erased since, and what is no
    impression. `open_after`: Unix seconds, see `ServedLists.open_from`. Raises what
    `headrace.log.read_columns` raises.
    """
    plan = plan_replay(
        settings,
        {IMPRESSIONS: span.through},
        start=None if since is None else {IMPRESSIONS: _begin(since, span)},
        topic_ids={IMPRESSIONS: span.topic_id},
    )
    builder = ListBuilder(models, read_erasures(settings), open_after)
    count = 0
    progress(0.0)
    with closing(run_replay(settings, plan)) as batches:
        for batch in batches:
            builder.add(batch)
            count += len(batch.records)
            progress(count / max(plan.offsets, 1))
    return builder.build(begin=begin, end=end)


def _begin(since: ListsSpan, span: ListsSpan) -> dict[str, int]:
    return since.through if since.topic_id == span.topic_id else {}


@dataclass(frozen=True)
class _Lists:
    """m lists; `item`: of all of them, one list after the other."""

    id: pa.LargeStringArray
    user: pa.DictionaryArray
    served_at: NDArray[np.float64]
    lengths: NDArray[np.int64]
    item: pa.DictionaryArray


class ListBuilder:
    """Gathers records of the topic and makes columns of them."""

    def __init__(
        self,
        models: Collection[str],
        erasures: Erasures | None = None,
        open_after: float = np.inf,
    ) -> None:
        """`models`: whose lists are wanted, by id; `open_after`: Unix seconds."""
        self._open_after = open_after
        self._open_from: dict[str, int] = {}
        self._models = pa.array(sorted(models), pa.string())
        self._erasures = Erasures() if erasures is None else erasures
        # Columns have their types though there be no record.
        self._lists = [_columns(_NO_ROWS)]

    def add(self, batch: Batch) -> None:
        """Take records of the topic, in any order; less than 1 GiB at a time."""
        table = _read(batch.records.values)
        row = np.flatnonzero(_wanted(table, self._models))
        table = table.take(pa.array(row))
        kept = self._count(batch, table, table["record"].to_numpy())
        table = table.filter(pa.array(kept))
        self._note_open(batch.records, table)
        self._lists.append(_columns(table))

    def build(self, *, begin: float | None = None, end: float | None = None) -> ServedLists:
        """Return the lists, those from `begin` on and before `end`, both Unix seconds.

        The same records make the same columns in whatever order they arrived.
        """
        served_at = np.concatenate([each.served_at for each in self._lists])
        ids = pa.chunked_array([each.id for each in self._lists])
        names = ids.combine_chunks().dictionary_encode() if len(ids) else None
        order = _sorted(served_at, ids)
        if names is not None:
            order = order[_first_of_each(names.indices.to_numpy()[order])]
        at = served_at[order]
        order = order[(at >= (begin or 0.0)) & (at < (np.inf if end is None else end))]
        lengths = np.concatenate([each.lengths for each in self._lists])
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        start = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[order])])
        within = np.arange(start[-1]) - np.repeat(start[:-1], lengths[order])
        user, user_ids = recode([each.user for each in self._lists], order)
        item, item_ids = recode(
            [each.item for each in self._lists], np.repeat(starts[order], lengths[order]) + within
        )
        return ServedLists(user, served_at[order], start, item, user_ids, item_ids, self._open_from)

    def _note_open(self, records: Records, table: pa.Table) -> None:
        record = table["record"].to_numpy()[table["served_at"].to_numpy() > self._open_after]
        partition, offset = records.partition[record], records.offset[record]
        for number in np.unique(partition).tolist():
            first = int(offset[partition == number].min())
            name = str(number)
            self._open_from[name] = min(first, self._open_from.get(name, first))

    def _count(self, batch: Batch, table: pa.Table, record: NDArray[np.int64]) -> NDArray[np.bool_]:
        records = batch.records
        settled = settled_s(table["served_at"].to_numpy())
        return not_erased(
            self._erasures,
            batch.topic,
            batch.topic_id,
            table["user_id"].combine_chunks(),
            records.partition[record],
            records.offset[record],
            (settled * 1000).astype(np.int64),
        )


class _Row(Struct, frozen=True):
    """What of an impression is read here."""

    id: ImpressionId
    served_at: Annotated[float, Meta(ge=0)]
    item_ids: tuple[str, ...]
    model_id: str
    user_id: UserId | None = None


_decoder = msgspec.json.Decoder(_Row)


def _read(values: Sequence[bytes | None]) -> pa.Table:
    """Return the columns of the records that are impressions, and `record`, which they were."""
    lines = [value if value and len(value) <= MAX_BYTES else b"{}" for value in values]
    table = _parsed(lines) if lines else _NO_ROWS
    if table is None:
        # Something is no impression, or is written as Arrow does not read it.
        table = _parsed([_proven(line) for line in lines])
    if table is None:
        raise AssertionError("records that were proven do not parse")
    return table.append_column("record", pa.array(np.arange(len(table))))


def _parsed(lines: Sequence[bytes]) -> pa.Table | None:
    """Return a row for each line, None when not every line is one JSON object of the schema."""
    text = b"\n".join((*lines, b""))
    try:
        if not text.isascii():
            text.decode()
        table = pj.read_json(
            pa.BufferReader(text),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=pj.ParseOptions(
                explicit_schema=_SCHEMA, unexpected_field_behavior="ignore"
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    whole = len(table) == len(lines) and not table["item_ids"].combine_chunks().flatten().null_count
    return table if whole else None


def _proven(line: bytes) -> bytes:
    try:
        return msgspec.json.encode(_decoder.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b"{}"


def _wanted(table: pa.Table, models: pa.StringArray) -> NDArray[np.bool_]:
    """Return which rows are lists of some items, served to a user by one of the models."""
    told = pc.and_(
        pc.is_in(table["model_id"], models),
        pc.and_(pc.is_valid(table["user_id"]), pc.is_valid(table["served_at"])),
    )
    some = pc.greater(pc.fill_null(pc.list_value_length(table["item_ids"]), 0), 0)
    return np.asarray(pc.and_(pc.and_(told, some), pc.is_valid(table["id"])).to_numpy())


def _columns(table: pa.Table) -> _Lists:
    items = table["item_ids"].combine_chunks()
    return _Lists(
        id=table["id"].combine_chunks().cast(pa.large_string()),
        user=table["user_id"].combine_chunks().cast(pa.large_string()).dictionary_encode(),
        served_at=table["served_at"].to_numpy(),
        lengths=pc.list_value_length(items).to_numpy(zero_copy_only=False).astype(np.int64),
        item=items.flatten().cast(pa.large_string()).dictionary_encode(),
    )


def _sorted(served_at: NDArray[np.float64], ids: pa.ChunkedArray) -> NDArray[np.int64]:
    rows = pa.table({"at": served_at, "id": ids})
    order = pc.sort_indices(rows, [("at", "ascending"), ("id", "ascending")])
    return np.asarray(order.to_numpy(), np.int64)


def _first_of_each(codes: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.sort(np.unique(codes, return_index=True)[1])


_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "user_id": pa.string(),
        "served_at": pa.float64(),
        "item_ids": pa.list_(pa.string()),
        "model_id": pa.string(),
    }
)
_NO_ROWS = _SCHEMA.empty_table()
