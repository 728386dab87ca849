"""The sample data: fetched through pip once, checked, and read in the right order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from headrace.catalog import Item
from headrace.errors import DataUnavailable
from headrace.local import movielens
from headrace.local.movielens import cache_folder, load_movielens


def test_all_ratings_in_time_order_with_ties_in_the_files_order(cache: Path) -> None:
    ratings = load_movielens(cache).ratings
    assert len(ratings) == 100_000
    assert len({rating.event_id for rating in ratings}) == 100_000
    assert len({rating.user_id for rating in ratings}) == 943
    rows = [(r.timestamp, int(r.event_id.removeprefix("ml-100k-"))) for r in ratings]
    assert rows == sorted(rows)
    # The file's first line: 196 242 3 881250949.
    first = next(rating for rating in ratings if rating.event_id == "ml-100k-1")
    assert (first.user_id, first.item_id, first.rating, first.timestamp) == (
        "196",
        "242",
        3.0,
        881250949.0,
    )


def test_movies_are_items_with_genres_and_year(cache: Path) -> None:
    items = load_movielens(cache).items
    assert len(items) == 1_682
    assert items[0] == Item(
        item_id="1",
        title="Toy Story",
        categories=("Animation", "Children's", "Comedy"),
        attributes={"year": 1995},
    )
    assert Counter("year" in item.attributes for item in items)[False] == 2


def test_nothing_is_left_beside_the_data(cache: Path) -> None:
    load_movielens(cache)
    assert sorted(path.name for path in cache.iterdir()) == ["ml-100k", movielens.WHEEL]


def test_damaged_data_are_fetched_anew(cache: Path) -> None:
    load_movielens(cache)
    (cache / "ml-100k" / movielens.RATINGS).write_text("damaged")
    assert len(load_movielens(cache).ratings) == 100_000


def test_data_in_the_cache_need_nothing_else(cache: Path) -> None:
    load_movielens(cache)
    (cache / movielens.WHEEL).unlink()
    assert len(load_movielens(cache).ratings) == 100_000


def test_a_wheel_that_is_not_the_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / movielens.WHEEL).write_bytes(b"something else")
    with pytest.raises(DataUnavailable, match=movielens.WHEEL_SHA256):
        load_movielens(tmp_path)
    assert not (tmp_path / "ml-100k").exists()


def test_without_an_index_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DataUnavailable, match=r"recbole==1\.2\.1.*Check the network"):
        load_movielens(tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataUnavailable, match="XDG_CACHE_HOME"):
        load_movielens(tmp_path / "file" / "headrace")


def test_the_cache_is_where_the_user_keeps_caches() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/somewhere"}) == Path("/somewhere/headrace")
    assert cache_folder({}) == Path.home() / ".cache" / "headrace"
