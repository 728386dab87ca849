"""Bringing the archive level with the topics: each record once, whatever is killed when.

A file is written aside, made durable, and renamed to the name that says which offsets it holds. So
where the archive ends always stands in its names, and the next run goes on from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import TopicPartition

from headrace.archive import ASIDE, Archive, day_of, next_day_ms, segment_path
from headrace.archive_files import ParquetFile, table_of
from headrace.errors import ArchiveInvalid, HeadraceError
from headrace.kafka_reader import read_spans, unreachable
from headrace.log import log_spans
from headrace.settings import Settings
from headrace.topics import TopicLookup, Topics, topic_ids

MAX_RECORDS = 1_000_000
MAX_BYTES = 128 * 2**20
"""Beyond either a file is closed and another begun."""
_AT_ONCE = 16
"""Partitions read together: each holds up to a row group in memory."""


@dataclass(frozen=True)
class Task:
    """A partition of which the log holds what the archive does not."""

    topic: str
    topic_id: str
    partition: int
    folder: Path
    lost: range
    """Offsets that the log dropped before they were archived."""
    offsets: range
    """Those to archive."""


@dataclass
class Outcome:
    """What became of a topic."""

    ends: dict[int, int] = field(default_factory=dict)
    """By partition, the offset through which it is archived, exclusive."""
    records: int = 0
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Plan:
    """What a run is to do."""

    tasks: Sequence[Task]
    outcomes: Mapping[str, Outcome]
    """By topic; of a run that does nothing."""
    warnings: Sequence[str]

    @property
    def offsets(self) -> int:
        """How many offsets there are to archive."""
        return sum(len(task.offsets) for task in self.tasks)


@contextlib.contextmanager
def archive_held(root: Path) -> Iterator[None]:
    """Hold the archive, so that no other archiver writes to it, until the block ends.

    Raises `ArchiveInvalid` when another one holds it, or it cannot be written.
    """
    with _writing(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.read(lock, 200).decode(errors="replace").strip() or "another process"
            raise ArchiveInvalid(
                f"{root} is being written by {holder}. Wait for its end, or end it."
            ) from exc
        with _writing(root):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(lock)


def plan_archive(settings: Settings, topics: Sequence[str]) -> Plan:
    """Return what the log holds and the archive does not. Blocks.

    `topics` are names without the prefix. Raises `HeadraceError` when Kafka cannot be reached, or
    the archive's files do not follow each other.
    """
    archive = Archive(Path(settings.archive))
    ids = topic_ids(settings, topics)
    tasks: list[Task] = []
    warnings: list[str] = []
    outcomes = {topic: Outcome() for topic in topics}
    for topic, spans in log_spans(settings, tuple(ids)).items():
        incarnation = archive.incarnation(topic, ids[topic])
        ends = incarnation.ends()
        for partition, span in spans.items():
            archived = ends.get(partition, 0)
            outcomes[topic].ends[partition] = archived
            if archived > span.stop:
                warnings.append(_ahead(topic, partition, archived, span.stop))
                continue
            lost = range(archived, max(span.start, archived))
            if lost:
                warnings.append(_lost(topic, partition, lost))
            folder = incarnation.folder / str(partition)
            rest = range(lost.stop, span.stop)
            if lost or rest:
                tasks.append(Task(topic, ids[topic], partition, folder, lost, rest))
    return Plan(tasks, outcomes, warnings)


def run_plan(
    settings: Settings,
    plan: Plan,
    advance: Callable[[int], None] = lambda _: None,
    *,
    max_records: int = MAX_RECORDS,
    max_bytes: int = MAX_BYTES,
) -> Mapping[str, Outcome]:
    """Archive what the plan says; return what became of each topic. Blocks.

    Hold the archive meanwhile. `advance` is told how many records more were read. Raises
    `HeadraceError` when Kafka goes away, a topic is made anew, or the disk does not take it; what
    was archived until then stays.
    """
    aside = Path(settings.archive) / ASIDE
    with _writing(aside):
        _clear(aside)
    publisher = _Publisher(settings, plan.outcomes)
    tasks = iter(plan.tasks)
    with contextlib.closing(publisher):
        while some := list(islice(tasks, _AT_ONCE)):
            with _writing(aside):
                writers = [
                    _Writer(task, aside / str(number), publisher.add, max_records, max_bytes)
                    for number, task in enumerate(some)
                ]
                _archive(settings, writers, publisher, advance)
    return plan.outcomes


def _archive(
    settings: Settings,
    writers: Sequence[_Writer],
    publisher: _Publisher,
    advance: Callable[[int], None],
) -> None:
    topics = Topics(settings)
    by_partition = {
        TopicPartition(topics.name(each.task.topic), each.task.partition): each for each in writers
    }
    spans = {partition: each.task.offsets for partition, each in by_partition.items()}
    with contextlib.ExitStack() as stack:
        for writer in writers:
            stack.callback(writer.abandon)
        batches = stack.enter_context(
            contextlib.closing(read_spans(settings, spans, complete=True))
        )
        for polled in batches:
            for partition, records in polled.items():
                by_partition[partition].add(records)
                advance(len(records))
            publisher.publish()
        for writer in writers:
            writer.finish()
        publisher.publish()


@dataclass(frozen=True)
class _Written:
    """A file that is whole but still aside."""

    task: Task
    aside: Path
    path: Path
    offsets: range
    records: int
    bytes: int


class _Writer:
    """Makes files of a partition's records, each of one day and of bounded size."""

    def __init__(
        self,
        task: Task,
        aside: Path,
        written: Callable[[_Written], None],
        max_records: int,
        max_bytes: int,
    ) -> None:
        self.task = task
        self._aside = aside
        self._written = written
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._file: ParquetFile | None = None
        self._day = ""
        self._day_ends_ms = 0
        self._files = 0
        self._end = self._begin = task.offsets.start
        """Offsets from `begin` on are not written yet, or to the open file up to `end`."""
        if task.lost:
            self._write_empty(task.lost)

    def add(self, records: Sequence[Any]) -> None:
        """Take the next records of the partition: aiokafka's."""
        if not records:
            return
        table = table_of(records)
        times = np.fromiter((each.timestamp for each in records), np.int64, len(records))
        start = 0
        while start < len(records):
            file = self._file or self._open(int(times[start]))
            later = np.flatnonzero(times[start:] >= self._day_ends_ms)
            stop = start + int(later[0]) if len(later) else len(records)
            stop = min(stop, start + self._max_records - file.records)
            if stop > start:
                file.add(table.slice(start, stop - start))
                self._end = records[stop - 1].offset + 1
            if stop < len(records) or self._is_full(file):
                self._close(file, self._end)
            start = stop

    def finish(self) -> None:
        """Close the last file: the partition is read to its end."""
        if self._file is not None:
            self._close(self._file, self.task.offsets.stop)
        elif self._begin < self.task.offsets.stop:
            # What is left are markers of transactions, or records that were compacted away.
            self._write_empty(range(self._begin, self.task.offsets.stop))

    def abandon(self) -> None:
        """Let go of the file that is open, if any; it is not archived."""
        if self._file is not None:
            self._file.abandon()

    def _open(self, time_ms: int) -> ParquetFile:
        self._file = ParquetFile(self._next_aside())
        self._day = day_of(time_ms)
        self._day_ends_ms = next_day_ms(time_ms)
        return self._file

    def _is_full(self, file: ParquetFile) -> bool:
        return file.records >= self._max_records or file.bytes >= self._max_bytes

    def _close(self, file: ParquetFile, end: int) -> None:
        size = file.close()
        self._file = None
        offsets = range(self._begin, end)
        path = segment_path(self.task.folder, offsets, self._day)
        self._written(_Written(self.task, file.path, path, offsets, file.records, size))
        self._begin = end

    def _write_empty(self, offsets: range) -> None:
        aside = self._next_aside()
        aside.touch()
        path = segment_path(self.task.folder, offsets, day=None)
        self._written(_Written(self.task, aside, path, offsets, records=0, bytes=0))
        self._begin = offsets.stop

    def _next_aside(self) -> Path:
        self._files += 1
        return self._aside.with_name(f"{self._aside.name}-{self._files}")


class _Publisher:
    """Gives files their names, once it is sure which topic their records are of."""

    def __init__(self, settings: Settings, outcomes: Mapping[str, Outcome]) -> None:
        self._settings = settings
        self._names = Topics(settings)
        self._outcomes = outcomes
        self._lookup = TopicLookup(settings)
        self._written: list[_Written] = []

    def close(self) -> None:
        """Disconnect from the broker."""
        self._lookup.close()

    def add(self, written: _Written) -> None:
        """Take a file; a partition's come in order."""
        self._written.append(written)

    def publish(self) -> None:
        """Archive the files taken. Raises `HeadraceError` when a topic was made anew meanwhile."""
        written, self._written = self._written, []
        if not written:
            return
        self._check({each.task.topic: each.task.topic_id for each in written})
        for each in written:
            _make_folder(each.path.parent)
            each.aside.rename(each.path)
            _sync(each.path.parent)
            outcome = self._outcomes[each.task.topic]
            outcome.ends[each.task.partition] = each.offsets.stop
            outcome.records += each.records
            outcome.bytes += each.bytes
            outcome.files += each.records > 0

    def _check(self, ids: Mapping[str, str]) -> None:
        """Ask now, after the records were read: an id never comes back."""
        from kafka.errors import KafkaError

        try:
            found = self._lookup.look_up([self._names.name(topic) for topic in ids])
        except (KafkaError, OSError) as exc:
            raise unreachable(self._settings, exc) from exc
        for topic, topic_id in ids.items():
            now = found.get(self._names.name(topic))
            if now is None or now.id != topic_id:
                raise HeadraceError(f"{topic} was made anew while it was read; archive again.")


def _clear(aside: Path) -> None:
    """Make the folder of files that are being written, without what a killed run left there."""
    _make_folder(aside)
    for path in aside.iterdir():
        path.unlink()


def _make_folder(folder: Path) -> None:
    """Make the folder and those above it, durably."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn the disk's refusals in this block into an error of ours."""
    try:
        yield
    except OSError as exc:
        raise ArchiveInvalid(
            f"{exc.filename or folder} cannot be written: {exc.strerror or exc}. Make room, or "
            "give yourself the right to; HEADRACE_ARCHIVE names the archive."
        ) from exc


def _lost(topic: str, partition: int, lost: range) -> str:
    since = "they were archived" if lost.start else "the archive began"
    return (
        f"{topic}/{partition}: Kafka dropped {len(lost):,} offsets ({lost.start} to {lost.stop}) "
        f"before {since}; archive more often than its retention."
    )


def _ahead(topic: str, partition: int, archived: int, end: int) -> str:
    return (
        f"{topic}/{partition}: the archive holds offsets up to {archived}, Kafka only up to {end}: "
        "Kafka has lost records. It is not archived until the topic is made anew, for the same "
        "offset would mean two records."
    )
