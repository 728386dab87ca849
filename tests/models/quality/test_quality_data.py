"""Reading the benchmarks' formats, and what is said of a file that is not so."""

from __future__ import annotations

import codecs
import lzma
from pathlib import Path

import numpy as np
import pytest

from headrace.errors import DataUnavailable
from models.training.quality import data
from models.training.quality.data import read_periods, read_users


def test_a_line_is_a_user(tmp_path: Path) -> None:
    path = tmp_path / "users.txt"
    path.write_text("7 3 9\n\n3 3\n")
    log = read_users(path)
    assert log.user_ids == ("1", "3")
    assert log.item_ids == ("3", "7", "9")
    assert log.user.tolist() == [0, 0, 0, 1, 1]
    assert log.item.tolist() == [1, 0, 2, 0, 0]
    # Order is all that is known: the place in the file stands in for the time.
    assert log.timestamp.tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(log.rating).all()


def test_a_packed_file_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "users.txt.xz").write_bytes(lzma.compress(b"1 2 3\r\n2 1\r\n"))
    assert read_users(tmp_path / "users.txt.xz").item.tolist() == [0, 1, 2, 1, 0]


def test_a_byte_order_mark_is_no_part_of_the_first_number(tmp_path: Path) -> None:
    raw = codecs.BOM_UTF8 + b"1 2\n"
    (tmp_path / "users.txt").write_bytes(raw)
    assert read_users(tmp_path / "users.txt").item_ids == ("1", "2")
    (tmp_path / "period_0.txt").write_bytes(raw)
    (tmp_path / "period_1.txt.xz").write_bytes(lzma.compress(raw))
    for period in read_periods(tmp_path).logs:
        assert (period.user_ids, period.item.tolist()) == (("1",), [1])


@pytest.mark.parametrize("text", ["", " \n\t\r\n"])
def test_a_file_without_an_item_is_named_with_the_cure(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users.txt"
    path.write_text(text)
    with pytest.raises(DataUnavailable) as error:
        read_users(path)
    assert str(error.value) == (
        f"{path} holds no item; write one user a line, items oldest first, separated by blanks."
    )


def test_periods_share_their_items_and_no_session(tmp_path: Path) -> None:
    (tmp_path / "period_0.txt").write_text("9 1\n5 2\n9 4\n")
    (tmp_path / "period_1.txt.xz").write_bytes(lzma.compress(b"9 6\n"))
    (tmp_path / "README").write_text("not a period")
    first, second = read_periods(tmp_path).logs
    assert first.user_ids == ("5", "9")
    assert first.user.tolist() == [1, 0, 1]
    assert first.item.tolist() == [0, 1, 3]
    assert second.item.tolist() == [5]
    assert first.item_ids == second.item_ids == ("1", "2", "3", "4", "5", "6")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2\n3 x4 5\n", "line 2: 'x4' is not a whole number"),
        ("1 2\n3 -4 5\n", "line 2: '-4' is not a whole number"),
        ("1 0\n", "line 1: item '0' is not an id from 1 to 10,000,000"),
        ("1\n10000001\n", "line 2: item '10000001' is not an id"),
        (f"1\n{'9' * 60}\n", "line 2: item '9999"),
    ],
)
def test_a_wrong_line_is_named_with_its_value(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "users.txt"
    path.write_text(text)
    with pytest.raises(DataUnavailable) as error:
        read_users(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2\n1 2 3\n", "line 2: '1 2 3' is not `session item`"),
        ("1 2\n1\n", "line 2: '1' is not `session item`"),
        ("1 2\n\n1 2\n", "line 2: '' is not `session item`"),
        ("1 0\n", "line 1: item '0' is not an id"),
        (f"{'9' * 30} 1\n", "more than 18 digits"),
        ("", "is empty"),
    ],
)
def test_a_wrong_line_of_a_period_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "period_0.txt").write_text("1 1\n")
    (tmp_path / "period_1.txt").write_text(text)
    with pytest.raises(DataUnavailable) as error:
        read_periods(tmp_path)
    assert said in str(error.value)


def test_a_session_may_have_any_number(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"period_{number}.txt").write_text("0 1\n999999999999 2\n")
    assert read_periods(tmp_path).logs[0].user_ids == ("0", "999999999999")


def test_a_missing_period_is_named(tmp_path: Path) -> None:
    for number in (0, 2):
        (tmp_path / f"period_{number}.txt").write_text("1 1\n")
    with pytest.raises(DataUnavailable, match=r"no period_1\.txt"):
        read_periods(tmp_path)


@pytest.mark.parametrize(
    ("names", "both"),
    [
        (("period_1.txt", "period_1.txt.xz"), "both period_1.txt and period_1.txt.xz"),
        (("period_1.txt", "period_01.txt"), "both period_01.txt and period_1.txt"),
    ],
)
def test_two_files_of_one_period_are_both_named(
    tmp_path: Path, names: tuple[str, ...], both: str
) -> None:
    for name in ("period_0.txt", *names):
        (tmp_path / name).write_text("1 1\n")
    with pytest.raises(DataUnavailable) as error:
        read_periods(tmp_path)
    assert str(error.value) == f"{tmp_path} has {both} for one period; remove one of them."


def test_what_cannot_be_unpacked_or_read_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "users.txt.xz"
    broken.write_bytes(lzma.compress(b"1 2 3\n" * 100)[:-20])
    with pytest.raises(DataUnavailable, match="cannot be unpacked"):
        read_users(broken)
    with pytest.raises(DataUnavailable, match="No such file"):
        read_users(tmp_path / "none")


def test_a_file_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "MAX_BYTES", 1_000)
    path = tmp_path / "users.txt.xz"
    path.write_bytes(lzma.compress(b"1 " * 100_000))
    with pytest.raises(DataUnavailable, match="more than 1,000 bytes"):
        read_users(path)
