"""Readers of the benchmarks' data, each into the columns that the product's dataset builder takes.

Data that know order alone get their place in the file as timestamp, in seconds, and are clicks.
"""

from __future__ import annotations

import codecs
import lzma
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.errors import DataUnavailable
from headrace.events import KINDS, EventColumns
from headrace.local.movielens import load_movielens

MAX_BYTES = 256 << 20
"""Of a file, unpacked: ten times the largest benchmark's, and what a small machine can hold."""
MAX_ITEM = 10_000_000
"""The largest id of an item; scores are reckoned for every id up to it."""
_NUMBERS = re.compile(rb"[0-9\s]*")
_PERIOD = re.compile(r"period_([0-9]+)\.txt(\.xz)?")
_QUOTED = 40
"""Characters quoted of a value that is wrong."""


@dataclass(frozen=True)
class Periods:
    """Consecutive periods of sessions. Sessions do not cross periods."""

    logs: tuple[EventColumns, ...]
    """`user` is a session, `item` is its id in the file less 1; `item_ids` are all periods'."""

    def first(self, tested: int | None) -> Periods:
        """Return as many periods as it takes to test so many; all for None."""
        return self if tested is None else Periods(self.logs[: tested + 1])


@dataclass(frozen=True)
class MovieLensColumns:
    """MovieLens-100k."""

    log: EventColumns
    """By time; equal times in the file's order."""
    row: NDArray[np.int64]
    """The place of each of the log's events in the file, from 0 up."""
    items: tuple[Item, ...]
    """The catalogue: title, genres and year of every movie."""
    titles: tuple[str, ...]
    """Of each item, with the year, as TensorFlow Datasets gives them: 1,664 different ones."""


def read_users(path: Path) -> EventColumns:
    """Read a file of one user a line, items oldest first, separated by blanks; `.xz` is unpacked.

    A user's id is the line's number; an item's is its number in the file. An empty line is a user
    without items. Raises `DataUnavailable` for a file that is not so, or that holds no item.
    """
    lines = _unpacked(path).split(b"\n")
    _check_numbers(path, lines)
    sizes = np.array([len(line.split()) for line in lines])
    ids = _numbers(path, lines)
    if not len(ids):
        raise DataUnavailable(
            f"{path} holds no item; write one user a line, items oldest first, separated by blanks."
        )
    item_ids, item = np.unique(ids, return_inverse=True)
    kept = np.flatnonzero(sizes)
    return _clicks(
        user=np.repeat(np.arange(len(kept)), sizes[kept]),
        item=item,
        user_ids=tuple(str(line + 1) for line in kept.tolist()),
        item_ids=tuple(str(item_id) for item_id in item_ids.tolist()),
    )


def read_periods(folder: Path) -> Periods:
    """Read a folder of `period_N.txt` or `.txt.xz`, N from 0 up, each line `session item`.

    Raises `DataUnavailable` for a folder or a file that is not so.
    """
    paths = _period_files(folder)
    pairs = [_read_pairs(path) for path in paths]
    item_ids = tuple(str(n + 1) for n in range(max(int(pair[:, 1].max()) for pair in pairs)))
    logs = []
    for pair in pairs:
        sessions, user = np.unique(pair[:, 0], return_inverse=True)
        user_ids = tuple(str(session) for session in sessions.tolist())
        logs.append(_clicks(user, pair[:, 1] - 1, user_ids, item_ids))
    return Periods(tuple(logs))


def read_movielens(cache: Path) -> MovieLensColumns:
    """Return MovieLens-100k from the cache, fetched into it when need be.

    Raises `DataUnavailable` when it cannot be had.
    """
    data = load_movielens(cache)
    user_ids = tuple({rating.user_id: None for rating in data.ratings})
    item_ids = tuple({rating.item_id: None for rating in data.ratings})
    users = {user_id: code for code, user_id in enumerate(user_ids)}
    items = {item_id: code for code, item_id in enumerate(item_ids)}
    titles = {
        item.item_id: f"{item.title} ({item.attributes.get('year', 'no year')})"
        for item in data.items
    }
    log = EventColumns(
        user=np.array([users[rating.user_id] for rating in data.ratings], np.int32),
        item=np.array([items[rating.item_id] for rating in data.ratings], np.int32),
        timestamp=np.array([rating.timestamp for rating in data.ratings]),
        kind=np.full(len(data.ratings), KINDS.index("rating"), np.int8),
        rating=np.array([rating.rating for rating in data.ratings], np.float32),
        user_ids=user_ids,
        item_ids=item_ids,
        through={"ratings": {"0": len(data.ratings)}},
    )
    rows = [int(rating.event_id.rpartition("-")[2]) - 1 for rating in data.ratings]
    of_item = tuple(titles[item_id] for item_id in item_ids)
    return MovieLensColumns(log, np.array(rows), tuple(data.items), of_item)


def _clicks(
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    user_ids: tuple[str, ...],
    item_ids: tuple[str, ...],
) -> EventColumns:
    return EventColumns(
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        timestamp=np.arange(len(user), dtype=np.float64),
        kind=np.full(len(user), KINDS.index("click"), np.int8),
        rating=np.full(len(user), np.nan, np.float32),
        user_ids=user_ids,
        item_ids=item_ids,
        through={"clicks": {"0": len(user)}},
    )


def _period_files(folder: Path) -> list[Path]:
    """Return the periods' files in order, one each; they are numbered from 0 without a gap."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as exc:
        raise DataUnavailable(f"{folder} cannot be read: {exc.strerror}.") from exc
    found: dict[int, str] = {}
    for match in filter(None, map(_PERIOD.fullmatch, names)):
        name = found.setdefault(int(match[1]), match[0])
        if name != match[0]:
            raise DataUnavailable(
                f"{folder} has both {name} and {match[0]} for one period; remove one of them."
            )
    missing = next(n for n in range(len(found) + 1) if n not in found)
    if missing < len(found) or missing < 2:
        raise DataUnavailable(
            f"{folder} has no period_{missing}.txt or period_{missing}.txt.xz; the periods are "
            "numbered from 0 without a gap, and there are 2 at the least."
        )
    return [folder / found[n] for n in range(len(found))]


def _read_pairs(path: Path) -> NDArray[np.int64]:
    """Return `[n, 2]`: session and item."""
    lines = _unpacked(path).split(b"\n")
    if lines[-1].strip() == b"":
        lines.pop()
    _check_numbers(path, lines)
    for number, line in enumerate(lines, start=1):
        if len(line.split()) != 2:
            raise DataUnavailable(
                f"{path}, line {number}: {_quoted(line)} is not `session item`: write two numbers, "
                "separated by a blank, on each line."
            )
    # Only the second of each line is an item.
    pairs = _numbers(path, lines, every=2).reshape(-1, 2)
    if not len(pairs):
        raise DataUnavailable(f"{path} is empty; a period has at least one line `session item`.")
    return pairs


def _unpacked(path: Path) -> bytes:
    """Return what the file holds, unpacked, without a byte-order mark."""
    try:
        with (lzma.open if path.suffix == ".xz" else open)(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (lzma.LZMAError, EOFError) as exc:
        raise DataUnavailable(f"{path} cannot be unpacked: {exc}; get the file again.") from exc
    except OSError as exc:
        raise DataUnavailable(f"{path} cannot be read: {exc.strerror}.") from exc
    if len(raw) > MAX_BYTES:
        raise DataUnavailable(
            f"{path} is more than {MAX_BYTES:,} bytes long, unpacked; take a part of it."
        )
    return bytes(raw).removeprefix(codecs.BOM_UTF8)


def _check_numbers(path: Path, lines: Sequence[bytes]) -> None:
    for number, line in enumerate(lines, start=1):
        if not _NUMBERS.fullmatch(line):
            wrong = next(word for word in line.split() if not word.isdigit())
            raise DataUnavailable(
                f"{path}, line {number}: {_quoted(wrong)} is not a whole number; ids are numbers, "
                "separated by blanks."
            )


def _numbers(path: Path, lines: Sequence[bytes], every: int = 1) -> NDArray[np.int64]:
    """Return all numbers; each `every`-th must be the id of an item."""
    words = b" ".join(lines).split()
    # A longer word is no id, and would not fit the array.
    too_long = any(len(word) > 18 for word in words)
    numbers = np.array([] if too_long else words, dtype=np.int64)
    items = numbers[every - 1 :: every]
    if too_long or (len(items) and not 1 <= items.min() <= items.max() <= MAX_ITEM):
        raise _wrong_item(path, lines, every)
    return numbers


def _wrong_item(path: Path, lines: Sequence[bytes], every: int) -> DataUnavailable:
    for number, line in enumerate(lines, start=1):
        for word in line.split()[every - 1 :: every]:
            if not 1 <= int(word[:19]) <= MAX_ITEM:
                return DataUnavailable(
                    f"{path}, line {number}: item {_quoted(word)} is not an id from 1 to "
                    f"{MAX_ITEM:,}; number the items from 1 up."
                )
    return DataUnavailable(f"{path}: a session's number has more than 18 digits; shorten it.")


def _quoted(raw: bytes) -> str:
    text = raw[:_QUOTED].decode(errors="replace")
    return repr(text) + ("…" if len(raw) > _QUOTED else "")
