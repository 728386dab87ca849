from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from toy import RING, WORLDS, item_id, walk

from headrace.catalog import Item
from headrace.sessions import Session
from headrace.transitions import Transition
from models.retrieval import Artifact, Retriever, ScannIndex
from models.retrieval.encoder import SessionEncoder
from models.retrieval.tower import QueryTower


@pytest.mark.parametrize("world", WORLDS)
def test_who_met_item_n_gets_item_n_plus_1(retriever: Retriever, world: str) -> None:
    hits = 0
    for start in range(RING):
        session = walk(world, start, start + 1, start + 2)
        found = retriever.recommend(session, 3, exclude=session.item_ids)
        assert found is not None
        hits += found.item_ids[0] == item_id(world, start + 3)
    assert hits >= RING - 2


def test_scores_are_probabilities_best_first(retriever: Retriever) -> None:
    found = retriever.recommend(walk("alpha", 1, 2), 10)
    assert found is not None
    assert len(found.item_ids) == len(set(found.item_ids)) == 10
    assert all(0 <= score <= 1 for score in found.scores)
    assert found.scores == sorted(found.scores, reverse=True)
    assert found.scores[0] > 0.5


def test_excluded_items_are_not_recommended(retriever: Retriever) -> None:
    excluded = {item_id("alpha", number) for number in range(10)} | {"no such item"}
    found = retriever.recommend(walk("alpha", 1, 2), 5, exclude=excluded)
    assert found is not None
    assert len(found.item_ids) == 5
    assert not excluded & set(found.item_ids)


def test_unknown_items_are_passed_over(retriever: Retriever) -> None:
    known = walk("alpha", 1, 2)
    mixed = Session(
        item_ids=("nobody's", *known.item_ids),
        timestamps=(known.timestamps[0], *known.timestamps),
        kinds=("click", *known.kinds),
        ratings=(None, *known.ratings),
    )
    assert retriever.recommend(mixed, 5) == retriever.recommend(known, 5)


def test_it_cannot_say_without_a_known_item(retriever: Retriever) -> None:
    unknown = Session(("nobody's",), (1.0,), ("click",), (None,))
    for session in (Session(), unknown):
        assert retriever.recommend(session, 5) is None
        assert retriever.score(session, ["alpha-1"]) is None


def test_a_long_session_counts_as_its_newest_part(retriever: Retriever) -> None:
    long = walk("alpha", *range(RING))
    short = Session(long.item_ids[-6:], long.timestamps[-6:], long.kinds[-6:], long.ratings[-6:])
    ours, theirs = retriever.score(long, ["alpha-0"]), retriever.score(short, ["alpha-0"])
    assert ours is not None
    assert theirs is not None
    # The gap before the oldest of the six is known only to the longer session.
    assert ours.scores[0] == pytest.approx(theirs.scores[0], abs=0.2)


def test_given_items_are_scored_in_their_order(retriever: Retriever) -> None:
    session = walk("alpha", 1, 2)
    found = retriever.recommend(session, 4)
    assert found is not None
    asked = ["nobody's", *reversed(found.item_ids)]
    scored = retriever.score(session, asked)
    assert scored is not None
    assert scored.item_ids == asked
    assert scored.scores[0] == 0.0
    np.testing.assert_allclose(scored.scores[1:], found.scores[::-1], rtol=1e-5)


def test_given_items_score_what_they_are_recommended_with(retriever: Retriever) -> None:
    session = walk("alpha", 1, 2)
    met = session.item_ids
    found = retriever.recommend(session, 5, exclude=met)
    assert found is not None
    scored = retriever.score(session, found.item_ids, exclude=met)
    assert scored is not None
    assert scored.scores == pytest.approx(found.scores, rel=1e-5)


@pytest.fixture(params=["exact", "scann"])
def either(request: pytest.FixtureRequest, toy_artifact: Artifact) -> Retriever:
    """A retriever with either index."""
    scann = request.param == "scann"
    return Retriever(toy_artifact, ScannIndex.build(toy_artifact.item_vectors) if scann else None)


def test_a_cold_item_is_recommended_to_fitting_sessions(either: Retriever) -> None:
    either.add_items([Item(item_id="new", categories=("beta",))])
    ranks: dict[str, list[int]] = {}
    for world in WORLDS:
        found = [
            either.recommend(walk(world, start, start + 1, start + 2), 2 * RING + 1)
            for start in range(RING)
        ]
        ranks[world] = [each.item_ids.index("new") for each in found if each]
    # In every list of ten of the world that it fits, and further down in all of the other's.
    assert max(ranks["beta"]) < 10
    assert max(ranks["beta"]) < min(ranks["alpha"])


def test_a_cold_item_stands_where_the_towers_see_it_when_rules_say_most(
    toy_artifact: Artifact,
) -> None:
    session = walk("beta", 3, 4, 5)
    scores = []
    for share in (0.0, 0.9):
        retriever = blended(toy_artifact, share)
        retriever.add_items([Item(item_id="new", categories=("beta",))])
        scored = retriever.score(session, ["new"])
        assert scored is not None
        scores += scored.scores
    assert scores[1] == pytest.approx(scores[0])


def test_a_click_on_a_cold_item_moves_the_list(either: Retriever) -> None:
    either.add_items([Item(item_id="new", categories=("beta",))])
    before = walk("alpha", 3)
    clicked = Session(
        item_ids=(*before.item_ids, "new"),
        timestamps=(*before.timestamps, before.timestamps[-1] + 60.0),
        kinds=(*before.kinds, "click"),
        ratings=(*before.ratings, None),
    )
    lists = [either.recommend(session, 10) for session in (before, clicked)]
    betas = [sum(at.startswith("beta") for at in each.item_ids) for each in lists if each]
    assert betas[0] <= 3
    assert betas[1] >= betas[0] + 3


def test_a_cold_item_that_is_removed_is_gone_for_either_index(either: Retriever) -> None:
    either.add_items([Item(item_id="new", categories=("beta",))])
    either.remove_items(["new"])
    found = either.recommend(walk("beta", 3, 4), 3 * RING)
    assert found is not None
    assert "new" not in found.item_ids
    assert len(found.item_ids) == 2 * RING
    either.add_items([Item(item_id="new", categories=("beta",))])
    found = either.recommend(walk("beta", 3, 4), 3 * RING)
    assert found is not None
    assert "new" in found.item_ids


@pytest.mark.parametrize("world", WORLDS)
def test_a_cold_item_ranks_where_its_features_belong(retriever: Retriever, world: str) -> None:
    cold = [Item(item_id=f"new-{of}", categories=(of,)) for of in WORLDS]
    retriever.add_items(cold)
    other = WORLDS[1 - WORLDS.index(world)]
    asked = [f"new-{world}", f"new-{other}"]
    scored = retriever.score(walk(world, 3, 4, 5), asked)
    assert scored is not None
    assert scored.cold == [True, True]
    assert scored.scores[0] > 2 * scored.scores[1]
    found = retriever.recommend(walk(world, 3, 4, 5), 2 * RING + 2)
    assert found is not None
    ranks = [found.item_ids.index(name) for name in asked]
    assert ranks[0] < ranks[1]
    assert found.cold[ranks[0]]


def test_a_cold_item_counts_in_a_session(retriever: Retriever) -> None:
    retriever.add_items([Item(item_id="new", categories=("beta",))])
    session = Session(("new",), (1_700_000_000.0,), ("rating",), (5.0,))
    found = retriever.recommend(session, 5)
    assert found is not None
    assert sum(name.startswith("beta") for name in found.item_ids) >= 4


def test_a_removed_item_is_no_candidate_until_it_is_added_again(retriever: Retriever) -> None:
    session = walk("alpha", 1, 2)
    before = retriever.recommend(session, 1)
    assert before is not None
    (best,) = before.item_ids
    retriever.remove_items([best, best, "nobody's"])
    assert best not in retriever
    after, scored = retriever.recommend(session, 2 * RING), retriever.score(session, [best])
    assert after is not None
    assert scored is not None
    assert best not in after.item_ids
    assert scored.scores == [0.0]
    retriever.add_items([Item(item_id=best, categories=("alpha",))])
    assert retriever.recommend(session, 1) == before


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_sessions_with_a_removed_item_still_count_it(toy_artifact: Artifact, share: float) -> None:
    """By the towers alone, and by the rules alone."""
    retriever = blended(toy_artifact, share)
    session = walk("alpha", 2, 3, 4)
    before = retriever.recommend(session, 5, exclude=session.item_ids)
    assert before is not None
    assert before.item_ids[0] == item_id("alpha", 5)
    retriever.remove_items(session.item_ids)
    assert retriever.recommend(session, 5) == before


def test_asking_twice_answers_the_same(retriever: Retriever) -> None:
    session = walk("beta", 5, 6, 7)
    first = retriever.recommend(session, 10)
    retriever.recommend(walk("alpha", 1), 10, exclude=["alpha-3"])
    retriever.score(session, ["nobody's"])
    retriever.similar("beta-1", 3)
    assert "nobody's" not in retriever
    assert retriever.recommend(session, 10) == first


def blended(artifact: Artifact, share: float, **changes: float) -> Retriever:
    blend = msgspec.structs.replace(artifact.blend, rules=share, **changes)
    return Retriever(replace(artifact, blend=blend))


def test_without_a_share_of_rules_the_towers_rank_alone(toy_artifact: Artifact) -> None:
    session = walk("alpha", 1, 2)
    found = blended(toy_artifact, 0.0, candidates=10).recommend(session, 2 * RING)
    assert found is not None
    places = np.array([toy_artifact.item_ids.index(each) for each in session.item_ids])
    encode = SessionEncoder(QueryTower(toy_artifact.query_tower), of_items=False)
    [query] = encode([session], [places], toy_artifact.item_vectors)
    order = np.argsort(-(toy_artifact.item_vectors @ query), kind="stable")
    assert found.item_ids == [toy_artifact.item_ids[at] for at in order]


def test_with_the_whole_share_the_rules_rank_alone(toy_artifact: Artifact) -> None:
    # Everyone walks round the ring: what followed item 2 most, and soonest, is 3, then 4, 5, …
    found = blended(toy_artifact, 1.0, last=1).recommend(walk("alpha", 1, 2), 5)
    assert found is not None
    assert found.item_ids == [item_id("alpha", number) for number in range(3, 8)]


def test_rules_bring_in_items_that_are_not_among_the_towers_candidates(
    toy_artifact: Artifact,
) -> None:
    session = walk("alpha", 2)
    worst = blended(toy_artifact, 0.0).recommend(session, 2 * RING)
    assert worst is not None
    last = worst.item_ids[-1]
    retriever = blended(toy_artifact, 0.9, candidates=10, smoothing=0.0)
    transition = Transition("clicks", "id", 0, 0, last, ("alpha-2",))
    retriever.learn([transition] * 10_000)
    found = retriever.recommend(session, 1)
    assert found is not None
    assert found.item_ids == [last]
    scored = retriever.score(session, [last])
    assert scored is not None
    assert scored.scores == pytest.approx(found.scores)
    # Neither when it is excluded, nor when it is no candidate any more.
    excluded = retriever.recommend(session, 2 * RING, exclude=[last])
    retriever.remove_items([last])
    removed = retriever.recommend(session, 2 * RING)
    assert excluded is not None
    assert removed is not None
    assert last not in excluded.item_ids
    assert last not in removed.item_ids


def test_cold_items_are_learnt_and_unknown_ones_are_not(toy_artifact: Artifact) -> None:
    retriever = blended(toy_artifact, 0.9)
    session = walk("alpha", 2)
    before = retriever.recommend(session, 5)
    retriever.learn(
        [
            Transition("clicks", "id", 0, 0, "nobody's", ("alpha-2",)),
            Transition("clicks", "id", 0, 1, "alpha-9", ("nobody's",)),
        ]
    )
    assert retriever.recommend(session, 5) == before
    retriever.add_items([Item(item_id="new", categories=("beta",))])
    # What nobody knows still takes its place: alpha-2 stands two places before.
    retriever.learn([Transition("clicks", "id", 0, 2, "new", ("nobody's", "alpha-2"))] * 10_000)
    found = retriever.recommend(session, 1)
    assert found is not None
    assert (found.item_ids, found.cold) == (["new"], [True])


def test_similar_items_are_of_the_same_world(retriever: Retriever) -> None:
    similar = retriever.similar("alpha-3", 5)
    assert similar is not None
    assert "alpha-3" not in similar.item_ids
    assert sum(name.startswith("alpha") for name in similar.item_ids) >= 4
    assert all(0 <= score <= 1 for score in similar.scores)
    assert retriever.similar("nobody's", 5) is None


def test_another_index_finds_the_same(toy_artifact: Artifact) -> None:
    exact = Retriever(toy_artifact)
    scann = Retriever(toy_artifact, ScannIndex.build(toy_artifact.item_vectors))
    session = walk("alpha", 1, 2)
    ours, theirs = exact.recommend(session, 3), scann.recommend(session, 3)
    assert ours is not None
    assert theirs is not None
    assert ours.item_ids == theirs.item_ids
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-4)
