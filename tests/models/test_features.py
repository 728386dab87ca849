from __future__ import annotations

import subprocess
import sys

import numpy as np

from headrace.catalog import Item
from models.retrieval.features import (
    BUCKETS,
    INTERACTION_FEATURES,
    SLOTS,
    interaction_features,
    item_features,
    item_tokens,
    kind_codes,
)

TOY_STORY = Item(
    item_id="1",
    title="Toy Story: the Toys",
    categories=("Animation",),
    price=20.0,
    attributes={"year": 1995, "studio": None},
)


def test_tokens_are_categories_price_step_attributes_and_words() -> None:
    # 4 · log10(20) = 5.2: the fifth quarter of an order of magnitude above 1.
    assert list(item_tokens(TOY_STORY)) == [
        "category=animation",
        "price=5",
        "year=1995",
        "title=toy",
        "title=story",
        "title=the",
        "title=toys",
    ]


def test_each_token_takes_one_bucket_and_the_rest_is_padding() -> None:
    features = item_features([TOY_STORY, Item(item_id="2")])
    assert features.shape == (2, SLOTS)
    assert (features[0] > 0).sum() == 7
    assert features.max() < BUCKETS
    assert not features[1].any()


def test_a_title_longer_than_the_slots_is_cut() -> None:
    long = Item(item_id="3", title=" ".join(f"w{n}" for n in range(200)))
    assert (item_features([long]) > 0).sum() == SLOTS


def test_buckets_are_the_same_in_every_process() -> None:
    program = (
        "from headrace.catalog import Item; from models.retrieval.features import item_features;"
        "print(item_features([Item(item_id='1', title='Toy Story')])[0, :2].tolist())"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]


def test_interaction_features_by_hand() -> None:
    features = interaction_features(
        np.array([0.0, 5.0, 1e9]),
        kind_codes(["click", "rating", "purchase"]),
        np.array([np.nan, 4.5, np.nan], np.float32),
    )
    # Columns: click, purchase, rating; rated, the rating; then steps of the gap. 5 s is in the
    # second one (3 s to 15 s), for log4(1 + 5) = 1.29; a gap without end is in the last.
    expected = np.zeros((3, INTERACTION_FEATURES), np.float32)
    expected[0, [0, 5]] = 1
    expected[1, [2, 3, 6]] = 1
    expected[1, 4] = 4.5
    expected[2, [1, INTERACTION_FEATURES - 1]] = 1
    np.testing.assert_array_equal(features, expected)
