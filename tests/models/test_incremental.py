"""Going on from a version: what was learnt and counted stays, what is new comes to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from logs import CLICK, PURCHASE
from toy import RING, TOY, item_id, toy_columns, toy_items, walk

from headrace.events import EventColumns
from headrace.log_sample import NewEvents, new_of
from headrace.versions import Manifest
from models.retrieval import Retriever, load_artifact
from models.retrieval.rules import count_rules, counted_on
from models.training.dataset import before, histories

NEWCOMERS = 6
"""Items of a third world, which nobody met before the new events."""


def grown_columns() -> tuple[EventColumns, int]:
    """The toy's stream, and after it users who walk round a new world; how much of it is old."""
    old = toy_columns()
    step, user = np.divmod(np.arange(40 * 9), 40)
    starts = np.random.default_rng(1).integers(0, NEWCOMERS, 40)
    new_items = len(old.item_ids) + (starts[user] + step) % NEWCOMERS
    new_ids = tuple(f"gamma-{number}" for number in range(NEWCOMERS))
    grown = replace(
        old,
        user=np.concatenate([old.user, 60 + user]).astype(np.int32),
        item=np.concatenate([old.item, new_items]).astype(np.int32),
        timestamp=np.concatenate([old.timestamp, old.timestamp[-1] + 60.0 * (1 + step)]),
        kind=np.concatenate([old.kind, np.full(len(user), CLICK)]).astype(np.int8),
        rating=np.concatenate([old.rating, np.full(len(user), np.nan)]).astype(np.float32),
        user_ids=(*old.user_ids, *(f"newcomer-{number}" for number in range(40))),
        item_ids=(*old.item_ids, *new_ids),
        through={"ratings": {"0": len(old)}, "clicks": {"0": len(user)}},
    )
    return grown, len(old)


@pytest.fixture(scope="module")
def onward(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    from models.training.incremental import load_base
    from models.training.pipeline import train_onward

    grown, old = grown_columns()
    base = load_base(toy_folder)
    assert not isinstance(base, str)
    new = new_of(grown, old, 300, np.random.default_rng(0))
    artifacts = tmp_path_factory.mktemp("onward")
    manifest = train_onward(
        base, new, toy_items(), TOY, artifacts, "toy", "v2", lambda *_, **__: None
    )
    return manifest, artifacts / "toy" / "v2"


def test_the_new_is_learnt_and_the_old_is_not_forgotten(onward: tuple[Manifest, Path]) -> None:
    retriever = Retriever(load_artifact(onward[1]))
    for world in ("alpha", "beta"):
        right = sum(
            item_id(world, n + 3) in retriever.recommend(walk(world, n, n + 1, n + 2), 3).item_ids  # type: ignore[union-attr]
            for n in range(RING)
        )
        assert right >= RING - 2
    newcomers = msgspec.structs.replace(
        walk("alpha", 0, 1),
        item_ids=("gamma-2", "gamma-3"),
        kinds=("click", "click"),
        ratings=(None, None),
    )
    found = retriever.recommend(newcomers, 3)
    assert found is not None
    assert "gamma-4" in found.item_ids


def test_a_version_says_from_which_it_went_on(
    onward: tuple[Manifest, Path], toy_manifest: Manifest
) -> None:
    manifest, _ = onward
    assert (manifest.mode, manifest.base) == ("incremental", toy_manifest.version)
    assert (toy_manifest.mode, toy_manifest.base) == ("full", None)
    assert manifest.data.events == 540 + 360
    assert 640 <= manifest.data.read <= 660
    assert manifest.data.from_timestamp == toy_manifest.data.from_timestamp
    assert manifest.data.fingerprint != toy_manifest.data.fingerprint
    assert manifest.parameters == toy_manifest.parameters


def test_no_version_says_that_its_weights_have_seen_less_than_they_did() -> None:
    """What is new may be older than what the base was fitted to, as history that is imported."""
    from models.training.version import data_onward, training_data

    grown, old = grown_columns()
    known = training_data(before(grown, old), {}, fitted_to=float(grown.timestamp[old - 10]))
    base = msgspec.structs.replace(known, fitted_to=grown.timestamp[-1] + 100.0)
    new = new_of(grown, old, 300, np.random.default_rng(0))
    read = training_data(new.columns, {}, fitted_to=float(grown.timestamp[old + 10]))
    assert data_onward(base, new, read).fitted_to == base.fitted_to
    assert data_onward(known, new, read).fitted_to == read.fitted_to


def test_items_keep_their_places_and_new_ones_follow(
    onward: tuple[Manifest, Path], toy_folder: Path
) -> None:
    first, second = load_artifact(toy_folder), load_artifact(onward[1])
    assert second.item_ids[: len(first.item_ids)] == first.item_ids
    assert sorted(second.item_ids[len(first.item_ids) :]) == [
        f"gamma-{number}" for number in range(NEWCOMERS)
    ]


def test_rules_counted_on_are_the_rules_of_all() -> None:
    grown, _ = grown_columns()
    # Some of the new events come late: they stand between old ones of their users.
    rng = np.random.default_rng(5)
    is_new = rng.random(len(grown)) < 0.2
    is_new[:20] = False
    items = len(grown.item_ids)

    def rules_of(log: EventColumns, per_item: int = items):  # type: ignore[no-untyped-def]
        data = histories(log, TOY)
        return count_rules(data.item - 1, data.first, items, per_item=per_item)

    kept = np.flatnonzero(~is_new)
    past = replace(
        grown,
        **{
            name: getattr(grown, name)[kept]
            for name in ("user", "item", "timestamp", "kind", "rating")
        },
    )
    found = counted_on(rules_of(past, 100), rules_of(past), rules_of(grown))
    expected = rules_of(grown, 100)
    assert found.flaw() is None
    np.testing.assert_allclose(found.totals, expected.totals, rtol=1e-5)
    np.testing.assert_array_equal(found.starts, expected.starts)
    for a in range(items):
        row = slice(*expected.starts[a : a + 2])
        ours = dict(zip(found.targets[row], found.weights[row], strict=True))
        theirs = dict(zip(expected.targets[row], expected.weights[row], strict=True))
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_baskets_counted_on_are_the_baskets_of_all() -> None:
    from models.training.bought_together import bought_since, count_bought_together

    grown, old = grown_columns()
    bought = replace(grown, kind=np.full(len(grown), PURCHASE, np.int8))
    items, basket_s = len(grown.item_ids), 240.0
    past = before(bought, old)
    found = bought_since(
        count_bought_together(past, basket_s),
        count_bought_together(past, basket_s, kept=items),
        count_bought_together(bought, basket_s, kept=items),
    )
    expected = count_bought_together(bought, basket_s)
    for name in ("offsets", "items", "counts", "baskets"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_what_is_nothing_to_go_on_from(toy_manifest: Manifest, tmp_path: Path) -> None:
    from models.training.incremental import load_base, unfit

    through = {"ratings": {"0": 600}}
    manifest = msgspec.structs.replace(
        toy_manifest, data=msgspec.structs.replace(toy_manifest.data, topic_ids={"ratings": "a"})
    )
    assert unfit(manifest, "retrieval", TOY, through, {"ratings": "a", "clicks": "b"}) is None
    anew = unfit(manifest, "retrieval", TOY, through, {"ratings": "other"})
    assert anew == f"topics were made anew since version {manifest.version}: ratings"
    fewer = unfit(manifest, "retrieval", TOY, through, {"clicks": "b"})
    assert fewer == f"version {manifest.version} was trained on other topics, too: ratings"
    wider = msgspec.structs.replace(TOY, width=32)
    assert "width is 32" in str(unfit(manifest, "retrieval", wider, through, {"ratings": "a"}))
    behind = {"ratings": {"0": 1}}
    assert "knows more" in str(unfit(manifest, "retrieval", TOY, behind, {"ratings": "a"}))
    assert "of the kind retrieval" in str(unfit(manifest, "items", TOY, through, {"ratings": "a"}))
    slower = msgspec.structs.replace(TOY, learning_rate=0.001, epochs=2, seed=9)
    assert unfit(manifest, "retrieval", slower, through, {"ratings": "a"}) is None
    part = msgspec.structs.replace(
        manifest, data=msgspec.structs.replace(manifest.data, whole=False)
    )
    assert "a part of the log" in str(unfit(part, "retrieval", TOY, through, {"ratings": "a"}))
    assert "no weights" in str(load_base(tmp_path))


def test_a_small_hold_out_leaves_the_choices_as_they_are(toy_folder: Path) -> None:
    from models.training.course import course_onward
    from models.training.incremental import load_base
    from models.training.pipeline import features_of, fit_course

    grown, old = grown_columns()
    few = before(grown, old + 30)
    base = load_base(toy_folder)
    assert not isinstance(base, str)
    short = msgspec.structs.replace(TOY, epochs=1, min_steps=1, final_epochs=0)
    course, columns = course_onward(base, new_of(few, old, 200, np.random.default_rng(0)), short)
    features = features_of(columns.item_ids, [])
    fitted = fit_course(course, features, short, lambda *_, **__: None)
    assert fitted.blend == base.artifact.blend
    assert fitted.calibration == base.artifact.calibration
    assert fitted.towers_calibration == base.weights.towers_calibration


def test_only_new_events_are_judged_by(toy_folder: Path) -> None:
    from models.training.course import course_onward
    from models.training.incremental import load_base

    base = load_base(toy_folder)
    assert not isinstance(base, str)
    columns = toy_columns()
    # Of the newest tenth, which is held out, only every other event is new.
    is_new = np.arange(len(columns)) % 2 == 1
    course, _ = course_onward(base, NewEvents(columns, is_new), TOY)
    assert len(course.positions)
    assert is_new[course.judged.event[course.positions]].all()
