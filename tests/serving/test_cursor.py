"""A cursor gives back what it was made of, and nothing else is one."""

from __future__ import annotations

import base64
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidCursor
from serving.cursor import MAX_LENGTH, MAX_SHOWN, read_cursor, write_cursor

IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256)


@given(st.lists(IDS, min_size=1, max_size=50))
def test_it_gives_back_the_ids(item_ids: list[str]) -> None:
    cursor = write_cursor(item_ids)
    assert cursor is not None
    assert read_cursor(cursor) == item_ids
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_a_feed_ends() -> None:
    item_ids = [f"item-{n}" for n in range(MAX_SHOWN)]
    cursor = write_cursor(item_ids)
    assert cursor is not None
    assert read_cursor(cursor) == item_ids
    assert write_cursor([*item_ids, "more"]) is None
    assert write_cursor(["x" * 256] * 1_030) is None


def test_what_cannot_be_compressed_fits() -> None:
    rng = random.Random(0)
    item_ids = ["".join(chr(rng.randrange(0x100, 0xD000)) for _ in range(100)) for _ in range(900)]
    while (cursor := write_cursor(item_ids)) is None:
        item_ids = item_ids[:-10]
    assert len(cursor) <= MAX_LENGTH
    assert read_cursor(cursor) == item_ids


def packed(raw: bytes) -> str:
    return base64.urlsafe_b64encode(zlib.compress(raw)).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "not one",
        "é",
        "====",
        "AAAA",
        packed(b"a")[:-3],
        packed(b"a") + "AAAA",
        packed(b"\xff"),
        packed(b"\n" * MAX_SHOWN),
        packed(b"a" * (1 << 28)),
    ],
    ids=range(11),
)
def test_anything_else_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor, match="cursor: is not one"):
        read_cursor(cursor)
