from __future__ import annotations

import numpy as np
import pytest

from models.retrieval.features import INTERACTION_FEATURES, SLOTS

WIDTH, LENGTH = 8, 5


@pytest.fixture(scope="module")
def two_tower():  # type: ignore[no-untyped-def]
    from models.training import two_tower

    return two_tower


@pytest.fixture(scope="module")
def session_model():  # type: ignore[no-untyped-def]
    from models.training import session_model

    return session_model


@pytest.fixture(scope="module")
def query_tower(two_tower):  # type: ignore[no-untyped-def]
    tower = query_tower_of(two_tower, blocks=2, heads=2, dropout=0.5)
    session = np.zeros((1, LENGTH, WIDTH), "f4"), np.zeros((1, LENGTH, INTERACTION_FEATURES), "f4")
    tower(*session, np.ones((1, LENGTH), np.int32))
    rng = np.random.default_rng(0)
    tower.set_weights([rng.normal(size=w.shape) for w in tower.get_weights()])
    return tower


def chance():  # type: ignore[no-untyped-def]
    from models.training.framework import tf

    return tf.random.Generator.from_seed(0)


def query_tower_of(two_tower, **options):  # type: ignore[no-untyped-def]
    plain = {"blocks": 1, "heads": 1, "dropout": 0.0, "temperature": 0.0, "chance": chance()}
    rating = {"rating_column": 4, "rating_mean": 3.0, "rating_stddev": 1.0}
    return two_tower.QueryTower(width=WIDTH, length=LENGTH, **{**plain, **options}, **rating)


def session(interactions: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(1, LENGTH, WIDTH)).astype("f4")
    features = rng.normal(size=(1, LENGTH, INTERACTION_FEATURES)).astype("f4")
    segment = (np.arange(LENGTH) >= LENGTH - interactions).astype(np.int32)[None]
    return vectors, features, segment


def test_whole_catalogue_loss_by_hand(session_model) -> None:  # type: ignore[no-untyped-def]
    # Two queries, three candidates of width 1; logits are q · c:
    #   q = 1: 0, 1, 2;  q = 2: 0, 2, 4.  Targets: 2 for the first, 0 and 1 for the second.
    queries, candidates = np.array([[1], [2]], "f4"), np.array([[0], [1], [2]], "f4")
    targets = np.array([[[2], [2]], [[0], [1]]], "f4")
    weights = np.array([[1, 0], [0.75, 0.25]], "f4")
    loss = session_model.CatalogueRetrieval()(
        queries, candidates, targets, weights, sampled_share=1
    )
    first = np.log(np.exp([0, 1, 2]).sum()) - 2
    second = np.log(np.exp([0, 2, 4]).sum()) - (0.75 * 0 + 0.25 * 2)
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-6)


def test_sampled_loss_by_hand(session_model) -> None:  # type: ignore[no-untyped-def]
    # One query, two candidates out of eight items: each stands for four.
    queries, candidates = np.array([[1]], "f4"), np.array([[0], [1]], "f4")
    targets, weights = np.array([[[2]]], "f4"), np.array([[1]], "f4")
    loss = session_model.CatalogueRetrieval()(
        queries, candidates, targets, weights, sampled_share=0.25
    )
    expected = np.log(4 * np.exp([0, 1]).sum() + np.exp(2)) - 2
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_no_target_no_loss(session_model) -> None:  # type: ignore[no-untyped-def]
    nothing = np.zeros((1, 1), "f4")
    loss = session_model.CatalogueRetrieval()(
        nothing, nothing, nothing[None], nothing, sampled_share=1
    )
    assert float(loss) == 0.0


def test_a_query_does_not_see_what_comes_after(query_tower) -> None:  # type: ignore[no-untyped-def]
    vectors, features, segment = session(LENGTH)
    before = query_tower(vectors, features, segment).numpy()
    vectors[0, 3] += 1.0
    after = query_tower(vectors, features, segment).numpy()
    np.testing.assert_array_equal(before[0, :3], after[0, :3])
    assert np.abs(before[0, 3:] - after[0, 3:]).max() > 1e-3


def test_padding_does_not_matter(query_tower) -> None:  # type: ignore[no-untyped-def]
    vectors, features, segment = session(2)
    query = query_tower(vectors, features, segment).numpy()[0, -1]
    vectors[0, :3], features[0, :3] = 9.0, -9.0
    np.testing.assert_allclose(query_tower(vectors, features, segment).numpy()[0, -1], query)


def test_sessions_in_one_row_do_not_see_each_other(query_tower) -> None:  # type: ignore[no-untyped-def]
    vectors, features, segment = session(2)
    alone = query_tower(vectors, features, segment).numpy()[0, -1]
    # The same two interactions stand behind three of another session, in one row.
    packed = np.array([[1, 1, 1, 2, 2]], np.int32)
    np.testing.assert_allclose(query_tower(vectors, features, packed).numpy()[0, -1], alone)
    # Where a session stands in a row makes no difference either.
    moved = [np.roll(part, 2, axis=1) for part in (vectors, features, packed)]
    moved[2][0] = [2, 2, 1, 1, 1]
    np.testing.assert_allclose(query_tower(*moved).numpy()[0, 1], alone, rtol=1e-5, atol=1e-6)


def test_the_last_query_is_that_of_a_left_padded_session(query_tower) -> None:  # type: ignore[no-untyped-def]
    vectors, features, segment = session(3)
    query = query_tower(vectors, features, segment).numpy()[:, -1]
    last = query_tower.last(vectors, features, np.array([3], np.int32)).numpy()
    np.testing.assert_allclose(last, query, rtol=1e-5)


def test_with_a_temperature_a_score_is_a_cosine(two_tower) -> None:  # type: ignore[no-untyped-def]
    tower = query_tower_of(two_tower, temperature=0.25)
    query = tower(*session(4)).numpy()[0, -1]
    assert np.linalg.norm(query[:-1]) == pytest.approx(4.0, rel=1e-5)
    candidates = two_tower.CandidateTower(
        np.zeros((3, SLOTS), np.int32), np.array([0, 1, 2], "f4"), WIDTH, 0.0, chance(), True
    )
    for vectors in (candidates(np.arange(3)), candidates.catalogue()):
        np.testing.assert_allclose(np.linalg.norm(vectors[:, :-1], axis=1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(vectors[:, -1], [0, 1, 2])


def test_a_query_has_a_constant_for_the_bias(query_tower) -> None:  # type: ignore[no-untyped-def]
    np.testing.assert_array_equal(query_tower(*session(4)).numpy()[..., -1], 1.0)


def test_candidate_tower_adds_the_mean_of_features(two_tower) -> None:  # type: ignore[no-untyped-def]
    features = np.zeros((3, SLOTS), np.int32)
    features[2, :2] = [5, 9]
    tower = two_tower.CandidateTower(features, np.array([0, 1, 2], "f4"), WIDTH, 0.5, chance())
    rng = np.random.default_rng(0)
    ids, buckets = (rng.normal(size=w.shape).astype("f4") for w in (tower.ids, tower.buckets))
    tower.set_weights([ids, buckets])
    content = (buckets[5] + buckets[9]) / 2
    expected = np.stack([ids[0], ids[1], ids[2] + content])
    np.testing.assert_allclose(tower(np.arange(3)), expected, rtol=1e-6)
    np.testing.assert_allclose(tower.catalogue(), expected, rtol=1e-6)
    np.testing.assert_allclose(tower.cold(features)[2], ids[0] + content, rtol=1e-6)


def test_ids_are_dropped_only_of_items_with_features(two_tower) -> None:  # type: ignore[no-untyped-def]
    features = np.zeros((3, SLOTS), np.int32)
    features[2, 0] = 5
    tower = two_tower.CandidateTower(features, np.array([0, 1, 2], "f4"), WIDTH, 0.5, chance())
    drawn = np.stack([tower.catalogue(training=True).numpy() for _ in range(50)])
    assert len(np.unique(drawn[:, 1, -1])) == 1
    assert sorted(np.unique(drawn[:, 2, -1]).tolist()) == [0.0, 2.0]


def test_large_catalogues_are_sampled(  # type: ignore[no-untyped-def]
    two_tower, session_model
) -> None:
    candidates = two_tower.CandidateTower(
        np.zeros((500, SLOTS), np.int32), np.zeros(500, "f4"), WIDTH, 0.1, chance()
    )
    tower = query_tower_of(two_tower)
    model = session_model.SessionModel(candidates, tower, 500, 256, chance())
    loss = model.compute_loss(
        {
            "items": np.ones((2, LENGTH), np.int32),
            "features": np.zeros((2, LENGTH, INTERACTION_FEATURES), "f4"),
            "segment": np.ones((2, LENGTH), np.int32),
            "targets": np.full((2, LENGTH, 3), 7, np.int32),
            "weights": np.ones((2, LENGTH, 3), "f4"),
        },
        training=True,
    )
    # Vectors near 0 and no bias: every item as likely as any of 500.
    assert float(loss) == pytest.approx(np.log(500), abs=0.3)
