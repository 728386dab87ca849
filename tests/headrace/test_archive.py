"""The archive's names: which file holds what, and what is missing or stands there twice."""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.archive import Archive, day_of, next_day_ms, segment_path
from headrace.errors import ArchiveInvalid

DAY_MS = 24 * 3600 * 1000


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=timezone.utc).timestamp() * 1000)  # type: ignore[misc]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_that_is_not_there_is_an_empty_archive(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "none")
    assert archive.incarnations("clicks") == []
    first = archive.incarnation("clicks", "a")
    assert (first.number, first.segments(), first.ends()) == (1, {}, {})


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveInvalid, match=r"file/clicks cannot be read: .*HEADRACE_ARCHIVE"):
        Archive(tmp_path / "file").incarnations("clicks")


def test_topics_made_anew_are_numbered_in_their_order(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for topic_id in ("z", "y", "x"):
        archive.incarnation("clicks", topic_id).folder.mkdir(parents=True)
    assert [each.topic_id for each in archive.incarnations("clicks")] == ["z", "y", "x"]
    assert archive.incarnation("clicks", "y").number == 2
    assert archive.incarnation("clicks", "w").number == 4
    assert archive.incarnations("ratings") == []


@given(st.text(min_size=1, max_size=40))
def test_whatever_characters_a_topic_id_has_it_is_one_folder_and_comes_back(topic_id: str) -> None:
    with TemporaryDirectory() as folder:
        archive = Archive(Path(folder))
        archive.incarnation("clicks", topic_id).folder.mkdir(parents=True)
        assert [each.topic_id for each in archive.incarnations("clicks")] == [topic_id]
        assert [each.parent for each in Path(folder).rglob("*-*")] == [Path(folder, "clicks")]


def test_a_folder_copied_into_its_own_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "clicks" / "1-a").mkdir(parents=True)
    (tmp_path / "clicks" / "2-a").mkdir()
    with pytest.raises(ArchiveInvalid, match="holds a topic id twice"):
        Archive(tmp_path).incarnations("clicks")


@given(
    st.integers(0, 2**62),
    st.lists(
        st.tuples(st.integers(1, 2**40), st.sampled_from(["2026-11-24", "2027-01-01", None])),
        max_size=6,
    ),
)
def test_files_come_in_the_order_of_their_offsets_whatever_their_days(
    first: int, pieces: list[tuple[int, str | None]]
) -> None:
    ranges: list[tuple[range, str | None]] = []
    end = first
    for length, day in [(1, "2026-12-31"), *pieces]:
        ranges.append((range(end, end + length), day))
        end += length
    with TemporaryDirectory() as folder:
        partition = Path(folder, "clicks", "1-a", "7")
        for offsets, day in ranges:
            touch(partition, str(segment_path(partition, offsets, day).relative_to(partition)))
        incarnation = Archive(Path(folder)).incarnation("clicks", "a")
        segments = incarnation.segments()[7]
        assert [each.offsets for each in segments] == [offsets for offsets, _ in ranges]
        assert [each.is_empty for each in segments] == [day is None for _, day in ranges]
        assert incarnation.ends() == {7: end}


def test_offsets_that_are_missing_are_named_with_the_cure(tmp_path: Path) -> None:
    folder = tmp_path / "clicks" / "1-a" / "0"
    touch(folder, "2026-11-24/0-10.parquet", "2026-11-24/20-30.parquet")
    incarnation = Archive(tmp_path).incarnation("clicks", "a")
    cure = folder / "10-20.empty"
    with pytest.raises(ArchiveInvalid, match=rf"lacks offsets 10 to 20.*{re.escape(str(cure))}"):
        incarnation.segments()
    cure.touch()
    assert incarnation.ends() == {0: 30}


@pytest.mark.parametrize(
    "other", ["2026-11-24/5-12.parquet", "0-10.empty", "2026-11-25/0-5.parquet"]
)
def test_offsets_that_stand_in_two_files_are_named(tmp_path: Path, other: str) -> None:
    folder = tmp_path / "clicks" / "1-a" / "0"
    touch(folder, "2026-11-24/0-10.parquet", other)
    with pytest.raises(ArchiveInvalid, match="hold the same offsets"):
        Archive(tmp_path).incarnation("clicks", "a").segments()


def test_a_file_of_no_offsets_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "clicks" / "1-a" / "0", "2026-11-24/7-7.parquet")
    with pytest.raises(ArchiveInvalid, match=r"7-7\.parquet names no offsets"):
        Archive(tmp_path).incarnation("clicks", "a").segments()


def test_the_oldest_days_may_be_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "clicks" / "1-a" / "0"
    touch(folder, "0-10.empty", "2026-11-24/10-20.parquet", "2026-11-25/20-30.parquet")
    incarnation = Archive(tmp_path).incarnation("clicks", "a")
    shutil.rmtree(folder / "2026-11-24")
    assert [each.offsets for each in incarnation.segments()[0]] == [range(20, 30)]
    shutil.rmtree(folder / "2026-11-25")
    assert incarnation.ends() == {0: 10}


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "clicks" / "1-a" / "0"
    touch(folder, "2026-11-24/0-10.parquet", "2026-11-24/00-11.parquet", "2026-11-24/notes.txt")
    touch(folder, "day/10-20.parquet", ".DS_Store", "../01/0-5.empty", "../../0-a/0/0-5.empty")
    found = Archive(tmp_path).incarnations("clicks")
    assert [each.topic_id for each in found] == ["a"]
    assert found[0].ends() == {0: 10}


def test_days_are_those_of_utc() -> None:
    assert day_of(ms(2026, 11, 24, 0, 0)) == "2026-11-24"
    assert day_of(ms(2026, 11, 25) - 1) == "2026-11-24"
    assert next_day_ms(ms(2026, 11, 24)) == next_day_ms(ms(2026, 11, 25) - 1) == ms(2026, 11, 25)
    # Of a record that has no time, or a made-up one.
    assert day_of(-1) == "1970-01-01"
    assert next_day_ms(-1) == DAY_MS
    assert day_of(2**63 - 1) == "9999-12-31"


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_day_ends_where_the_next_begins(time_ms: int) -> None:
    end = next_day_ms(time_ms)
    assert end > max(time_ms, 0) or end == 2**63 - 1
    if end < 2**63 - 1:
        assert day_of(end - 1) == day_of(time_ms) < day_of(end)
