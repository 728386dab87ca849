"""The archive of topics on disk: which file holds which offsets of which topic.

A partition's files lie under `<archive>/<topic>/<number>-<topic id>/<partition>/`:

    2026-11-24/0-1000.parquet     records of that day, all of the log's from offset 0 to 999
    1000-1200.empty               the log held no record there any more (retention)

The offsets in the names follow each other without gap or overlap, so a file that is missing shows.
The day is the UTC day of the first record's own time; a file holds records of no later day. Topics
that were made anew have numbers that ascend. Nothing here reads Parquet, so nothing imports it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, unquote

from headrace.errors import ArchiveInvalid

ASIDE = ".aside"
"""Folder, in the archive's own, of files that are being written."""
PARQUET, EMPTY = ".parquet", ".empty"

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NUMBER = r"(0|[1-9]\d{0,18})"
_PARTITION = re.compile(_NUMBER, re.ASCII)
_RANGE = re.compile(rf"{_NUMBER}-{_NUMBER}\.(parquet|empty)", re.ASCII)
_INCARNATION = re.compile(r"([1-9]\d{0,8})-(.+)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST_DAY_MS = (datetime(9999, 12, 31, tzinfo=timezone.utc) - _EPOCH) // timedelta(milliseconds=1)
_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Segment:
    """A file of the archive, and the offsets of its partition that it covers."""

    path: Path
    partition: int
    offsets: range

    @property
    def is_empty(self) -> bool:
        """Whether the log held no record at these offsets."""
        return self.path.suffix == EMPTY

    def is_before(self, time_ms: int) -> bool:
        """Return whether all its records are older: it holds none of a later day than its own."""
        return self.is_empty or self.path.parent.name < day_of(time_ms)


@dataclass(frozen=True)
class Incarnation:
    """A topic from when it was made until it was made anew, as far as it is archived."""

    folder: Path
    topic: str
    """Without the prefix."""
    topic_id: str
    number: int
    """Ascends with each time the topic was made anew."""

    def segments(self) -> dict[int, list[Segment]]:
        """Return the files of each partition, in order.

        Raises `ArchiveInvalid` when offsets between them are missing, or stand in two.
        """
        return {
            int(folder.name): _in_order(folder, int(folder.name))
            for folder in sorted(_folders(self.folder))
            if _PARTITION.fullmatch(folder.name)
        }

    def ends(self) -> dict[int, int]:
        """Return how far each partition is archived, exclusive. Raises what `segments` raises."""
        return {
            partition: segments[-1].offsets.stop
            for partition, segments in self.segments().items()
            if segments
        }


class Archive:
    """A folder of archived topics. One that is not there is an empty archive."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def incarnations(self, topic: str) -> list[Incarnation]:
        """Return what is archived under this name, the oldest first.

        Raises `ArchiveInvalid` when one stands there twice.
        """
        found = [
            Incarnation(folder, topic, unquote(match[2]), int(match[1]))
            for folder in _folders(self.root / topic)
            if (match := _INCARNATION.fullmatch(folder.name))
        ]
        found.sort(key=lambda each: (each.number, each.topic_id))
        if len({each.topic_id for each in found}) < len(found):
            raise ArchiveInvalid(
                f"{self.root / topic} holds a topic id twice; it has been copied into itself. "
                "Move one of the folders away."
            )
        return found

    def incarnation(self, topic: str, topic_id: str) -> Incarnation:
        """Return this one, which is the next of its topic when nothing of it is archived yet."""
        found = self.incarnations(topic)
        for each in found:
            if each.topic_id == topic_id:
                return each
        number = found[-1].number + 1 if found else 1
        folder = self.root / topic / f"{number}-{quote(topic_id, safe='')}"
        return Incarnation(folder, topic, topic_id, number)


def day_of(time_ms: int) -> str:
    """Return the UTC day of a time in Unix milliseconds: `2026-11-24`.

    Times before 1970, as of a record that has none, and after 9999 count as the first and last day.
    """
    day = _EPOCH + timedelta(milliseconds=min(max(time_ms, 0), _LAST_DAY_MS))
    return day.date().isoformat()


def next_day_ms(time_ms: int) -> int:
    """Return when the day of this time ends, in Unix milliseconds; for the last day, never."""
    if time_ms >= _LAST_DAY_MS:
        return 2**63 - 1
    return (max(time_ms, 0) // _DAY_MS + 1) * _DAY_MS


def segment_path(folder: Path, offsets: range, day: str | None) -> Path:
    """Return where a partition's file of these offsets lies; without a day, that of no records."""
    name = f"{offsets.start}-{offsets.stop}"
    return folder / (name + EMPTY) if day is None else folder / day / (name + PARQUET)


def _in_order(folder: Path, partition: int) -> list[Segment]:
    found = _segments(folder, partition)
    segments = sorted(found, key=lambda each: (each.offsets.start, each.is_empty))
    # It says nothing of records, and those after it may have been deleted: the oldest days.
    while len(segments) > 1 and segments[0].is_empty:
        segments.pop(0)
    for one, other in pairwise(segments):
        if other.offsets.start > one.offsets.stop:
            lost = range(one.offsets.stop, other.offsets.start)
            raise ArchiveInvalid(
                f"{folder} lacks offsets {lost.start} to {lost.stop}: files are missing between "
                f"{one.path.name} and {other.path.name}. Restore them from a copy, or go on "
                f"without those records by making the file {segment_path(folder, lost, None)}."
            )
        if other.offsets.start < one.offsets.stop:
            raise ArchiveInvalid(
                f"{one.path} and {other.path} hold the same offsets. Move one of them away."
            )
    return segments


def _segments(folder: Path, partition: int) -> Iterator[Segment]:
    days = [each for each in _folders(folder) if _DAY.fullmatch(each.name)]
    for path in (path for each in (folder, *days) for path in _entries(each)):
        # What has another name is not ours; were it one of ours renamed, its offsets are missed.
        if match := _RANGE.fullmatch(path.name):
            offsets = range(int(match[1]), int(match[2]))
            if not offsets:
                raise ArchiveInvalid(f"{path} names no offsets. Move it away.")
            yield Segment(path, partition, offsets)


def _folders(folder: Path) -> list[Path]:
    return [each for each in _entries(folder) if each.is_dir()]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise ArchiveInvalid(
            f"{folder} cannot be read: {exc.strerror}. Is HEADRACE_ARCHIVE right?"
        ) from exc
