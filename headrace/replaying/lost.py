"""What lies before all that is held of the log: neither Kafka nor the archive can tell it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from headrace.archive import Archive, Segment
from headrace.replaying.window import Window
from headrace.settings import Settings


def lost_offsets(
    settings: Settings, window: Window, spans: Mapping[str, Mapping[int, range]]
) -> dict[str, int]:
    """Return by partition (`clicks/0`) how many offsets of the window's beginning are lost.

    `spans` are what Kafka holds, by topic and partition. What a reader meets in the middle of the
    log it tells itself. Raises `ArchiveInvalid` when a file is missing.
    """
    return {name: count for name, count in _counts(settings, window, spans) if count}


def _counts(
    settings: Settings, window: Window, spans: Mapping[str, Mapping[int, range]]
) -> Iterator[tuple[str, int]]:
    archive = Archive(Path(settings.archive))
    for topic in window.topics:
        segments = archive.incarnation(topic, window.topic_ids[topic]).segments()
        for number, span in spans.get(topic, {}).items():
            if str(number) not in window.begins.get(topic, {}):
                of_number = segments.get(number, [])
                yield f"{topic}/{number}", _first_held(of_number, span, window.begin_ms)


def _first_held(segments: Sequence[Segment], span: range, begin_ms: int | None) -> int:
    """Return the first offset that is held, or 0 when all before it are older than `begin_ms`."""
    if not segments:
        return span.start
    if begin_ms is not None and segments[0].is_before(begin_ms):
        return 0
    return segments[0].offsets.start
