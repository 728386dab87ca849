"""The second stage: it learns to reorder what retrieval found, and says what that gains."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from ranking_tools import exported, write_ranker
from toy import TOY, item_id, toy_columns, toy_items, walk

from headrace.errors import ArtifactInvalid, TooFewEvents
from headrace.settings import GateSettings
from headrace.versions import Manifest
from models.retrieval import Retriever
from models.retrieval.ranker import CANDIDATES, FEATURES, Ranker, Scorer
from models.retrieval.recommendations import ListRequest
from models.retrieval.versions import check_version

LISTED = 20


def lists(count: int, seed: int):  # type: ignore[no-untyped-def]
    """Retrieval's order is chance; what came next is the candidate with the largest feature 4."""
    from models.training.ranking_lists import Examples

    rng = np.random.default_rng(seed)
    features = np.zeros((count, CANDIDATES, FEATURES), np.float32)
    features[:, :LISTED] = rng.normal(size=(count, LISTED, FEATURES))
    there = np.zeros((count, CANDIDATES), np.bool_)
    there[:, :LISTED] = True
    wanted = features[:, :LISTED, 4].argmax(axis=1)
    users, seconds = np.arange(count, dtype=np.int32), np.arange(count, dtype=np.float64)
    return Examples(features, there, wanted, np.zeros_like(there), users, seconds)


def test_what_decides_is_found() -> None:
    from models.training.ranking import convert, fit_ranking
    from models.training.ranking_gate import figures_of, scores_of

    learnt, judged = lists(1_000, 0), lists(300, 1)
    before = figures_of(judged.features[..., 0], judged)["ndcg_at_10"]
    scorer = Scorer(convert(fit_ranking(learnt, 0)))
    after = figures_of(scores_of(scorer, judged), judged)["ndcg_at_10"]
    # By chance the mean of 1 / log2(1 + rank) over 20 places is 0.23.
    assert before == pytest.approx(0.23, abs=0.05)
    assert after > 0.8


def test_untrained_it_leaves_the_order_as_it_is() -> None:
    from models.training.ranking import RankingModel

    features = lists(3, 0).features
    model = RankingModel(np.zeros(FEATURES, "f4"), np.ones(FEATURES, "f4"))
    np.testing.assert_allclose(model(features), features[..., 0], rtol=1e-6)


def test_equal_scores_and_items_not_found_count_against_it() -> None:
    from models.training.ranking_gate import figures_of

    examples = lists(4, 0)
    examples.wanted[:2] = -1
    found = figures_of(np.zeros((4, CANDIDATES), np.float32), examples)
    # Twice not found, twice the last of 20.
    assert found == {"ndcg_at_10": 0.0, "hr_at_10": 0.0}


def weak(features: Any) -> Any:
    """Better than chance: what decides is half of what it goes by."""
    return features[:, 4] + features[:, 5]


def strong(features: Any) -> Any:
    return features[:, 4]


def test_a_new_version_is_measured_beside_the_live_one(tmp_path: Path) -> None:
    from models.training.ranking_gate import RankingGate

    weaker, stronger = exported(weak), exported(strong)
    judged = lists(300, 1)
    first = RankingGate(GateSettings(), None, None).judge(Scorer(weaker), judged, 99.0)
    assert (first.accepted, first.against, first.events, first.since) == (
        True, "retrieval", 200, 99.0,
    )  # fmt: skip
    # By chance 0.23.
    assert first.baseline_ndcg_at_10 == pytest.approx(0.23, abs=0.05)
    # Better than retrieval alone, and worse than what serves.
    live = Ranker(write_ranker(tmp_path / "v1", stronger, 149.0))
    worse = RankingGate(GateSettings(), live, "v1").judge(Scorer(weaker), judged, 99.0)
    assert (worse.accepted, worse.against, worse.live) == (False, "v1", "v1")
    # The lists that the live one may know say nothing.
    assert (worse.events, worse.since) == (150, 149.0)
    assert (worse.ndcg_at_10, worse.baseline_ndcg_at_10) == (
        pytest.approx(first.ndcg_at_10, abs=0.05), 1.0,
    )  # fmt: skip
    assert worse.high < 0
    assert "beside 1.0000 of v1" in worse.reason
    live = Ranker(write_ranker(tmp_path / "weak", weaker, 149.0))
    better = RankingGate(GateSettings(), live, "v1").judge(Scorer(stronger), judged, 99.0)
    assert (better.accepted, better.ndcg_at_10, better.hr_at_10) == (True, 1.0, 1.0)
    assert better.baseline_ndcg_at_10 == worse.ndcg_at_10
    live = Ranker(write_ranker(tmp_path / "ahead", weaker, 299.0))
    behind = RankingGate(GateSettings(), live, "v1").judge(Scorer(stronger), judged, 99.0)
    assert (behind.accepted, behind.events) == (False, 0)
    assert "No held-out list is newer than" in behind.reason


def test_a_version_of_another_shape_is_refused(tmp_path: Path) -> None:
    wrong = exported(lambda features: features[:-1, 0])
    with pytest.raises(ArtifactInvalid, match=r"it makes \(199,\) of \(200, 10\), not \(200,\)"):
        Ranker(write_ranker(tmp_path / "v1", wrong))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    from models.training.ranking import train_ranking

    artifacts = tmp_path_factory.mktemp("ranking")
    short = msgspec.structs.replace(TOY, epochs=3, min_steps=200, final_epochs=0)
    manifest = train_ranking(
        toy_columns(users=80), toy_items(), short, artifacts, "ranking", "v1", lambda *_, **__: None
    )
    return manifest, artifacts / "ranking" / "v1"


def test_broken_off_it_goes_on_from_where_its_retrieval_was(
    made: tuple[Manifest, Path], tmp_path: Path
) -> None:
    from models.training.pipeline import Origin
    from models.training.ranking import train_ranking

    class BrokenOff(Exception):
        pass

    told: list[float] = []

    def breaking(step: str, fraction: float, **figures: float) -> None:
        if step == "ask for lists":
            raise BrokenOff

    def progress(step: str, fraction: float, **figures: float) -> None:
        if step == "retrieval: fit":
            told.append(figures["epoch"])

    short = msgspec.structs.replace(TOY, epochs=3, min_steps=200, final_epochs=0)
    asked = (toy_columns(users=80), toy_items(), short, tmp_path, "ranking", "v1")
    origin = Origin(work=tmp_path / "work")
    with pytest.raises(BrokenOff):
        train_ranking(*asked, breaking, origin)
    manifest = train_ranking(*asked, progress, origin)
    assert told == []
    for name, value in made[0].metrics.items():
        assert abs(manifest.metrics[name] - value) < 1e-6, name


def test_a_version_says_what_the_second_stage_gains(made: tuple[Manifest, Path]) -> None:
    manifest, folder = made
    assert manifest.kind == "ranking"
    assert {"ndcg_at_10", "without_ndcg_at_10", "hr_at_10", "events"} <= set(manifest.metrics)
    assert manifest.metrics["ndcg_at_10"] >= manifest.metrics["without_ndcg_at_10"] - 0.05
    assert manifest.metrics["events"] >= 50
    assert check_version(folder) == manifest


def test_candidates_are_reordered_none_lost(
    made: tuple[Manifest, Path], retriever: Retriever
) -> None:
    ranker = Ranker(made[1])
    session = walk("alpha", 1, 2, 3)
    plain = retriever.recommend(session, 20, exclude=session.item_ids)
    [found] = retriever.candidates_many([ListRequest(session, 20, session.item_ids)])
    assert plain is not None
    assert found is not None
    assert (found.items, found.features.shape) == (plain, (len(plain.item_ids), FEATURES - 2))
    best = ranker.reordered(found)
    assert sorted(best.item_ids) == sorted(plain.item_ids)
    assert best.scores == sorted(best.scores, reverse=True)
    assert all(0 <= score <= 1 for score in best.scores)
    assert item_id("alpha", 4) in best.item_ids[:3]


def test_a_damaged_version_is_refused(made: tuple[Manifest, Path], tmp_path: Path) -> None:
    folder = tmp_path / "v1"
    shutil.copytree(made[1], folder)
    (folder / "ranker.tflite").write_bytes(b"not a model")
    with pytest.raises(ArtifactInvalid, match="sha256"):
        check_version(folder)
    (folder / "ranker.tflite").unlink()
    with pytest.raises(ArtifactInvalid, match=r"ranker\.tflite"):
        check_version(folder)


def test_too_few_lists_are_said_to_be_too_few() -> None:
    from models.training.ranking import fit_ranking

    with pytest.raises(TooFewEvents, match="20 lists; a second stage needs 50"):
        fit_ranking(lists(20, 0), 0)
