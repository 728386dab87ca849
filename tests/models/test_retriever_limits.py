"""What a request may ask of a version: limits, diversity, reasons; of either index the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from toy import RING, WORLDS, item_id, toy_items, walk

from headrace.catalog import Item
from headrace.sessions import Session
from headrace.transitions import Transition
from models.retrieval import Artifact, Recommendations, Retriever, ScannIndex
from models.retrieval.candidates import CANDIDATE_FEATURES
from models.retrieval.filters import parse_filter
from models.retrieval.limits import NO_LIMITS, Limits
from models.retrieval.recommendations import ListRequest

ALL = 2 * RING


@pytest.fixture(params=["exact", "scann"])
def either(request: pytest.FixtureRequest, toy_artifact: Artifact) -> Retriever:
    """A retriever that knows its items' fields: their world as a category, their number."""
    scann = request.param == "scann"
    index = ScannIndex.build(toy_artifact.item_vectors) if scann else None
    retriever = Retriever(toy_artifact, index)
    retriever.add_items(
        [
            msgspec.structs.replace(item, attributes={"number": number % RING})
            for number, item in enumerate(toy_items())
        ]
    )
    return retriever


def where(**raw: Any) -> Limits:
    return Limits(filter=parse_filter(raw))


def recommended(retriever: Retriever, session: Session, k: int, **asked: Any) -> Recommendations:
    found = retriever.recommend(session, k, **asked)
    assert found is not None
    return found


def scores(found: Recommendations) -> dict[str, float]:
    return dict(zip(found.item_ids, found.scores, strict=True))


@pytest.mark.parametrize("numbers", [[3], [1, 5, 9], list(range(0, RING, 2)), list(range(RING))])
def test_a_filter_gives_the_best_of_what_matches(either: Retriever, numbers: list[int]) -> None:
    session = walk("alpha", 1, 2)
    everything = recommended(either, session, ALL)
    matching = {item_id(world, number) for world in WORLDS for number in numbers}
    found = recommended(either, session, 5, limits=where(number={"in": numbers}))
    best = [at for at in everything.item_ids if at in matching][:5]
    assert found.item_ids == best
    # A filter chooses among scores and changes none.
    assert found.scores == pytest.approx([scores(everything)[at] for at in best], rel=1e-4)


def test_what_is_excluded_is_left_out_and_scores_stay(either: Retriever) -> None:
    session = walk("alpha", 1, 2)
    met = session.item_ids
    everything = recommended(either, session, ALL, exclude=met)
    limits = Limits(exclude=[*everything.item_ids[:4], "nobody's"])
    found = recommended(either, session, 5, exclude=met, limits=limits)
    assert found.item_ids == everything.item_ids[4:9]
    assert found.scores == pytest.approx(everything.scores[4:9], rel=1e-4)


def test_rules_bring_in_nothing_that_the_filter_leaves_out(toy_artifact: Artifact) -> None:
    blend = msgspec.structs.replace(toy_artifact.blend, rules=0.9)
    retriever = Retriever(replace(toy_artifact, blend=blend))
    retriever.add_items(toy_items())
    session = walk("alpha", 1, 2)
    found = recommended(retriever, session, ALL, limits=where(categories={"any": ["beta"]}))
    assert sorted(found.item_ids) == sorted(item_id("beta", n) for n in range(RING))


def test_a_cold_item_and_a_changed_one_are_found_by_what_they_are_now(either: Retriever) -> None:
    session, wanted = walk("beta", 3, 4), where(categories={"any": ["new world"]})
    assert recommended(either, session, 5, limits=wanted).item_ids == []
    either.add_items(
        [
            Item(item_id="cold", categories=("beta", "new world")),
            Item(item_id="beta-7", categories=("new world",)),
        ]
    )
    assert set(recommended(either, session, 5, limits=wanted).item_ids) == {"cold", "beta-7"}
    either.remove_items(["cold"])
    assert recommended(either, session, 5, limits=wanted).item_ids == ["beta-7"]
    asked = parse_filter({"categories": {"any": ["new world"]}})
    assert either.holding(["beta-7", "cold", "beta-6", "nobody's"], asked).tolist() == [
        True, False, False, False,
    ]  # fmt: skip


def test_popular_items_go_on_with_any_that_there_are(either: Retriever) -> None:
    everything = either.popular_items(500, first=["beta-3", "nobody's", "alpha-9", "beta-3"])
    assert everything[:2] == ["beta-3", "alpha-9"]
    assert sorted(everything) == sorted(item.item_id for item in toy_items())
    popular = [at for at in either.popular if at not in everything[:2]]
    assert everything[2 : 2 + len(popular)] == popular
    fives = either.popular_items(5, first=["beta-3", "beta-5"], limits=where(number={"eq": 5}))
    assert fives == ["beta-5", "alpha-5"]
    left = either.popular_items(500, exclude=everything[:20], limits=Limits(everything[20:22]))
    assert sorted(left) == sorted(everything[22:])


def test_a_diverse_list_is_of_both_worlds(either: Retriever) -> None:
    pool = recommended(either, walk("alpha", 1, 2), ALL)
    plain, mixed, apart = (either.diversify(pool, 6, d) for d in (0.0, 0.5, 1.0))
    assert plain == pool.at(range(6))
    assert sum(at.startswith("beta") for at in plain.item_ids) == 0
    assert sum(at.startswith("beta") for at in apart.item_ids) >= 1
    assert mixed.item_ids[0] == apart.item_ids[0] == pool.item_ids[0]
    for found in (mixed, apart):
        assert len(set(found.item_ids)) == 6
        assert scores(found).items() <= scores(pool).items()
    assert likeness(either, apart) < likeness(either, mixed) <= likeness(either, plain)


def likeness(retriever: Retriever, found: Recommendations) -> float:
    """The mean cosine of two items of the list."""
    vectors = retriever._items.vectors[retriever._items.positions(found.item_ids), :-1]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    n = len(vectors)
    return float(((vectors @ vectors.T).sum() - n) / (n * (n - 1)))


def test_an_effect_is_what_the_score_would_lack(either: Retriever) -> None:
    # Someone who went from one world into the other.
    session = Session(
        ("alpha-2", "alpha-3", "beta-7"),
        (1.7e9, 1.7e9 + 60, 1.7e9 + 120),
        ("rating",) * 3,
        (5.0,) * 3,
    )
    met = session.item_ids
    asked = ["alpha-4", "beta-8", "nobody's"]
    of_alpha, of_beta, of_nobody = either.explain(session, asked, exclude=met)
    assert set(of_alpha) == set(of_beta) == set(met)
    assert of_alpha["alpha-3"] > 0 > of_alpha["beta-7"]
    assert of_beta["beta-7"] > 0
    assert max(of_beta, key=lambda at: of_beta[at]) == "beta-7"
    assert set(of_nobody.values()) == {0.0}
    full = either.score(session, asked, exclude=met)
    without = either.score(session.without(2), asked, exclude=met)
    assert full is not None
    assert without is not None
    assert session.without(2) == walk_of(session, 2)
    assert of_beta["beta-7"] == pytest.approx(full.scores[1] - without.scores[1])


def walk_of(session: Session, newest: int) -> Session:
    """The session's oldest interactions."""
    return Session(
        session.item_ids[:newest],
        session.timestamps[:newest],
        session.kinds[:newest],
        session.ratings[:newest],
    )


def test_only_the_newest_known_interactions_are_looked_at(either: Retriever) -> None:
    session = Session(
        ("alpha-1", "alpha-2", "nobody's", "alpha-3"),
        (1.7e9, 1.7e9 + 60, 1.7e9 + 90, 1.7e9 + 120),
        ("rating",) * 4,
        (5.0,) * 4,
    )
    (effects,) = either.explain(session, ["alpha-4"], newest=2)
    assert list(effects) == ["alpha-2", "alpha-3"]
    # Without its one interaction there is no score at all.
    one = Session(("alpha-3",), (1.7e9,), ("rating",), (5.0,))
    (effects,) = either.explain(one, ["alpha-4"])
    scored = either.score(one, ["alpha-4"])
    assert scored is not None
    assert effects == {"alpha-3": pytest.approx(scored.scores[0])}
    assert either.explain(Session(), ["alpha-4"]) == [{}]


def test_lists_made_together_are_those_made_one_by_one(either: Retriever) -> None:
    sessions = [walk("alpha", 1, 2), walk("beta", *range(RING)), walk("beta", 7), Session()]
    sessions.append(
        Session(("nobody's", item_id("alpha", 4)), (1.0, 9.0), ("click",) * 2, (None,) * 2)
    )
    either.learn([Transition("clicks", "", 0, 1, item_id("beta", 3), (item_id("alpha", 2),))])
    asked = [
        ListRequest(session, k, exclude, limits)
        for session in sessions
        for k in (1, 5, ALL)
        for exclude in ((), session.item_ids, [item_id("alpha", 3), "nobody's"])
        for limits in (NO_LIMITS, where(number={"in": [3, 4, 5]}), Limits([item_id("beta", 8)]))
    ]
    order = np.random.default_rng(0).permutation(len(asked)).tolist()
    lists = either.recommend_many([asked[at] for at in order])
    candidates = either.candidates_many([asked[at] for at in order])
    for at, listed, reordered in zip(order, lists, candidates, strict=True):
        each = asked[at]
        alone = either.recommend(each.session, each.k, exclude=each.exclude, limits=each.limits)
        if alone is None:
            assert each.session == Session()
            assert listed is reordered is None
            continue
        assert reordered is not None
        # To the last bit: an answer does not tell whom else it was made with.
        assert listed == reordered.items == alone
        assert reordered.features.shape == (len(alone.item_ids), CANDIDATE_FEATURES)
    assert either.recommend_many([]) == []


@pytest.mark.parametrize("limits", [NO_LIMITS, Limits(exclude=frozenset({"new-3", "beta-1"}))])
def test_the_best_of_many_cold_items_are_listed_when_rules_say_most(
    toy_artifact: Artifact, limits: Limits
) -> None:
    blend = msgspec.structs.replace(toy_artifact.blend, rules=0.999, candidates=10)
    retriever = Retriever(replace(toy_artifact, blend=blend))
    cold = [Item(item_id=f"new-{n}", categories=(WORLDS[n % 2],)) for n in range(30)]
    retriever.add_items([*toy_items(), *cold])
    session = walk("alpha", 1, 2)
    ids = [each.item_id for each in (*toy_items(), *cold) if each.item_id not in limits.exclude]
    scored = retriever.score(session, ids)
    assert scored is not None
    for k in (3, 10, 25):
        best = sorted(scored.scores, reverse=True)[:k]
        found = recommended(retriever, session, k, limits=limits)
        assert found.scores == pytest.approx(best, rel=1e-5)
