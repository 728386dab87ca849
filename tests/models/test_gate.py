"""The gate: what it measures, on which events, and when a version is rejected."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from logs import CLICK
from toy import RING, TOY, toy_columns, toy_items

from headrace.events import EventColumns
from headrace.log_sample import new_of
from headrace.settings import GateSettings
from headrace.training_settings import TrainingSettings
from headrace.versions import POPULARITY
from models.retrieval import Artifact, load_artifact
from models.training.bootstrap import paired_difference
from models.training.dataset import Histories, histories
from models.training.gate import Gate, HeldOut, rules_before
from models.training.verdicts import in_words, verdict_of

SHORT = TrainingSettings(
    width=8, session_length=4, epochs=1, min_steps=3, final_epochs=1, rules_share=0.5
)


def fitted_to(artifact: Artifact, at: float, version: str = "v0") -> Artifact:
    """The same, as if it had been fitted up to this moment."""
    import msgspec

    data = msgspec.structs.replace(artifact.manifest.data, fitted_to=at, to_timestamp=at)
    manifest = msgspec.structs.replace(artifact.manifest, data=data, version=version)
    return replace(artifact, manifest=manifest)


def spoilt(artifact: Artifact) -> Artifact:
    """The same with towers that say nothing, and rules of no share."""
    import msgspec

    return replace(
        artifact,
        item_vectors=np.zeros_like(artifact.item_vectors),
        blend=msgspec.structs.replace(artifact.blend, rules=0.0),
    )


def by_toy(columns: EventColumns) -> Histories:
    return histories(columns, TOY)


@pytest.fixture(scope="module")
def half(toy_artifact: Artifact) -> Artifact:
    """The toy version, as if the last third of its log had been held out."""
    return fitted_to(toy_artifact, float(toy_columns().timestamp[359]))


def test_a_difference_by_hand() -> None:
    # Two users: 3 of 4 against 2 of 4 at first, then all that can be drawn: twice the one
    # (2/2 against 1/2: +100 %), twice the other (1/2 against 1/2: 0 %), one of each (+50 %).
    first = np.array([1.0, 1.0, 1.0, 0.0])
    second = np.array([1.0, 0.0, 1.0, 0.0])
    found = paired_difference(first, second, np.array([7, 7, 9, 9]))
    assert (found.share, found.low, found.high) == (0.5, 0.0, 1.0)
    nothing = paired_difference(np.zeros(3), np.zeros(3), np.arange(3))
    assert (nothing.share, nothing.low, nothing.high) == (0.0, 0.0, 0.0)
    assert paired_difference(np.zeros(0), np.zeros(0), np.zeros(0, np.int64)).share == 0.0
    assert paired_difference(np.ones(2), np.zeros(2), np.arange(2)).share == 1.0


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(40):
        second = (rng.random(400) < 0.3).astype(float)
        first = np.where(rng.random(400) < 0.2, (rng.random(400) < 0.3), second).astype(float)
        found = paired_difference(first, second, np.arange(400), seed)
        held += found.low <= 0.0 <= found.high
    assert held >= 34


def test_held_out_events_are_new_to_their_user_and_not_to_the_log() -> None:
    # User 0 walks items 0, 1, 2; user 1 walks 1, 2, 3; then 0 meets 3 (new to all), 1 meets 0, and
    # 1 meets 2 once more; user 2 comes without a session.
    rows = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (0, 3), (1, 0), (1, 2), (2, 1)]
    user, item = (np.array(each, np.int32) for each in zip(*rows, strict=True))
    columns = EventColumns(
        user=user,
        item=item,
        timestamp=np.arange(len(rows), dtype=np.float64),
        kind=np.zeros(len(rows), np.int8),
        rating=np.full(len(rows), 5.0, np.float32),
        user_ids=("a", "b", "c"),
        item_ids=("0", "1", "2", "3"),
        through={},
    )
    held = HeldOut.of(columns, 4.0, TOY)
    assert held.start == 5
    assert held.queries.target.tolist() == [0]
    assert held.users.tolist() == [1]
    assert held.met(0) == [1, 2]
    # Before the fifth event items 1 and 2 were met twice, 0 once; b has met 1 and 2.
    assert held.popular_ranks().tolist() == [1]


def test_the_newer_half_of_the_hold_out_is_held_back(toy_artifact: Artifact) -> None:
    columns = toy_columns()
    assert Gate(GateSettings(), None, None).held_back(columns, TOY) == 27
    assert Gate(GateSettings(events=5), None, None).held_back(columns, TOY) == 5


def test_the_first_version_is_measured_beside_popularity(half: Artifact) -> None:
    verdict = Gate(GateSettings(), None, None).judge(half, toy_columns(), toy_items(), TOY)
    assert (verdict.accepted, verdict.against, verdict.live) == (True, POPULARITY, None)
    assert verdict.ndcg_at_10 > 0.7 > verdict.baseline_ndcg_at_10
    assert verdict.low > 0
    assert (verdict.events, verdict.users) == (180, 60)
    assert "beside" in verdict.reason
    assert verdict.figures()["gate_events"] == 180


def test_one_that_is_worse_than_popularity_is_rejected(half: Artifact) -> None:
    # All scores equal: what is listed is the first of the items, which in the ring nobody meets
    # more often than the others. Popularity is made good: everyone meets the first eight items.
    columns = toy_columns()
    item = np.where(np.arange(len(columns)) % 9 < 8, columns.item % 8 + 16, columns.item)
    columns = replace(columns, item=item.astype(np.int32))
    verdict = Gate(GateSettings(), None, None).judge(spoilt(half), columns, [], TOY)
    assert not verdict.accepted
    assert verdict.high < 0
    assert "worse by more than 2.0\u00a0%" in verdict.reason


def test_a_worse_version_is_rejected_and_a_better_one_is_not(half: Artifact) -> None:
    good, bad = half, fitted_to(spoilt(half), half.manifest.data.fitted_to or 0, "v9")
    columns, items = toy_columns(), toy_items()
    verdict = Gate(GateSettings(), good, "v0").judge(bad, columns, items, TOY)
    assert (verdict.accepted, verdict.against, verdict.live) == (False, "v0", "v0")
    assert verdict.difference < -0.3
    assert verdict.high < 0
    back = Gate(GateSettings(), bad, "v9").judge(good, columns, items, TOY)
    assert back.accepted
    assert (back.ndcg_at_10, back.baseline_ndcg_at_10) == (
        verdict.baseline_ndcg_at_10,
        verdict.ndcg_at_10,
    )


def test_what_nothing_could_be_asked_of_does_not_take_the_place_of_what_serves(
    half: Artifact,
) -> None:
    # Whoever comes after what either was fitted to meets the same item as ever.
    columns = toy_columns()
    first = np.zeros(columns.user.max() + 1, np.int32)
    first[columns.user[::-1]] = columns.item[::-1]
    held_out = columns.timestamp > (half.manifest.data.fitted_to or 0)
    again = replace(columns, item=np.where(held_out, first[columns.user], columns.item))
    verdict = Gate(GateSettings(), half, "v0").judge(half, again, [], TOY)
    assert (verdict.accepted, verdict.events) == (False, 0)
    assert "nothing to measure it on" in verdict.reason
    assert Gate(GateSettings(), None, None).judge(half, again, [], TOY).accepted


def test_what_is_within_the_tolerance_or_chance_is_accepted(half: Artifact) -> None:
    bad = spoilt(half)
    columns = toy_columns()
    lenient = GateSettings(tolerance=0.99)
    assert Gate(lenient, half, "v0").judge(bad, columns, [], TOY).accepted
    same = Gate(GateSettings(tolerance=0.0), half, "v0").judge(half, columns, [], TOY)
    assert same.accepted
    assert (same.difference, same.low, same.high) == (0.0, 0.0, 0.0)


def said_of(new: list[int], old: list[int]) -> tuple[bool, str]:
    """Return whether these ranks pass beside those, each of a user, and the end of what is said."""
    verdict = verdict_of(
        np.array(new, np.int32), np.array(old, np.int32), np.arange(len(new), dtype=np.int32),
        against="v0", live="v0", since=0.0, tolerance=0.02,
    )  # fmt: skip
    return verdict.accepted, in_words(verdict, beside="v0", events="events").rpartition(": ")[2]


def test_what_is_said_is_what_was_measured() -> None:
    # Equal; lower by more than the tolerance for one user of three, whom a draw may leave out, so
    # that the interval reaches 0; lower for each.
    ones = [1, 1, 1]
    assert said_of(ones, ones) == (True, "not worse by more than 2.0\u00a0%.")
    assert said_of([1, 1, 2], ones) == (True, "not shown to be worse by more than 2.0\u00a0%.")
    assert said_of([2, 2, 2], ones) == (False, "worse by more than 2.0\u00a0%, and not by chance.")


def test_only_events_newer_than_what_either_was_fitted_to_are_asked_for(half: Artifact) -> None:
    columns = toy_columns()
    later = float(columns.timestamp[479])
    verdict = Gate(GateSettings(), fitted_to(half, later), "v0").judge(half, columns, [], TOY)
    assert (verdict.since, verdict.events) == (later, 60)
    end = float(columns.timestamp[-1])
    beyond = Gate(GateSettings(), fitted_to(half, end), "v0").judge(half, columns, [], TOY)
    assert (beyond.accepted, beyond.events) == (False, 0)
    assert "nothing to measure both on" in beyond.reason


def test_rules_know_the_events_before_the_one_asked_for_and_no_later_ones(half: Artifact) -> None:
    import msgspec

    # Rules alone: from 360 of 540 events they know the whole ring, whatever the artefact's hold.
    blend = msgspec.structs.replace(half.blend, rules=1.0)
    none = replace(half.rules, weights=half.rules.weights * 0 + 1e-3)
    alone = replace(half, blend=blend, rules=none)
    verdict = Gate(GateSettings(), None, None).judge(alone, toy_columns(), [], TOY)
    assert verdict.hr_at_10 == 1.0
    # Before anyone has met two items, there are none: everything is still to be asked for.
    nothing = fitted_to(alone, 0.0)
    columns = toy_columns()
    first = HeldOut.of(columns, 0.0, TOY)
    assert first.start == 0
    assert len(first.asked) == 0
    unknown = Gate(GateSettings(), None, None).judge(nothing, columns, [], TOY)
    assert (unknown.accepted, unknown.events) == (True, 0)
    assert "nothing to measure it on" in unknown.reason


def test_going_on_from_a_version_rules_know_what_was_counted_before_it(
    half: Artifact, toy_folder: Path
) -> None:
    import msgspec

    from models.training.incremental import load_base, onward

    # After the toy's log ten newcomers walk the whole first world; one new event in thirty, all of
    # one user, is read with them of the 540 before: too little to know a rule from.
    old = toy_columns()
    step, user = np.divmod(np.arange(10 * 6), 10)
    columns = replace(
        old,
        user=np.concatenate([old.user, 60 + user]).astype(np.int32),
        item=np.concatenate([old.item, (user + step) % RING]).astype(np.int32),
        timestamp=np.concatenate([old.timestamp, old.timestamp[-1] + 1.0 + step + user / 10]),
        kind=np.concatenate([old.kind, np.full(60, CLICK)]).astype(np.int8),
        rating=np.concatenate([old.rating, np.full(60, 5.0)]).astype(np.float32),
        user_ids=(*old.user_ids, *(f"newcomer-{number}" for number in range(10))),
    )
    blend = msgspec.structs.replace(half.blend, rules=1.0)
    live = fitted_to(replace(half, blend=blend), float(old.timestamp[-1]))
    exported = fitted_to(replace(live, item_ids=live.item_ids), float(old.timestamp[-1]), "v1")
    gate = Gate(GateSettings(), live, "v0")
    whole = gate.judge(exported, columns, [], TOY)
    assert (whole.events, whole.hr_at_10) == (50, 1.0)

    base = load_base(toy_folder)
    assert not isinstance(base, str)
    read = new_of(columns, len(old), 2, np.random.default_rng(0))
    new, counted = onward(base, read, by_toy)
    part = gate.judge(exported, new.columns, [], TOY, counted)
    assert part == whole
    # By the events read alone rules know what newcomers did themselves, and no more.
    assert gate.judge(exported, new.columns, [], TOY).ndcg_at_10 < whole.ndcg_at_10

    # What was counted of the held-out events when the version was made, they do not know yet.
    earlier = fitted_to(live, float(old.timestamp[359]))
    before_it = HeldOut.of(columns, float(old.timestamp[359]), TOY)
    again, counted = onward(base, new_of(columns, 540, 540, np.random.default_rng(0)), by_toy)
    held = HeldOut.of(again.columns, float(old.timestamp[359]), TOY, counted)
    for found, expected in zip(
        rules_before(earlier, held, held.start).arrays(),
        rules_before(earlier, before_it, before_it.start).arrays(),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_version_that_is_trained_is_judged_and_says_so(tmp_path: Path) -> None:
    from models.training.pipeline import Origin, train

    def trained(version: str, live: Artifact | None) -> Artifact:
        gate = Gate(GateSettings(), live, live.manifest.version if live else None)
        train(
            toy_columns(), toy_items(), SHORT, tmp_path, "toy", version, lambda *_, **__: None,
            Origin(gate=gate),
        )  # fmt: skip
        return load_artifact(tmp_path / "toy" / version)

    first, again = trained("v1", None), trained("v2", None)
    data = first.manifest.data
    assert data.fitted_to == toy_columns().timestamp[540 - 27 - 1]
    assert data.to_timestamp == toy_columns().timestamp[-1]
    verdict = first.manifest.verdict
    assert verdict is not None
    assert verdict.since == data.fitted_to
    assert verdict.events == 27
    assert first.manifest.metrics["gate_ndcg_at_10"] == verdict.ndcg_at_10
    # Rules go as far as the log: 60 users with 9 events each, 8 steps of distance 1, 7 of 2, …
    assert first.rules.weights.sum() == pytest.approx(60 * sum((9 - d) / d for d in range(1, 9)))
    assert len(first.item_ids) == 2 * RING

    # The same data, parameters and seed: the same version, figure by figure.
    def figures(artifact: Artifact) -> dict[str, float]:
        return artifact.manifest.metrics

    assert figures(first) == figures(again)
    assert first.manifest.data == again.manifest.data
    assert first.manifest.verdict == again.manifest.verdict
    np.testing.assert_allclose(first.item_vectors, again.item_vectors, rtol=0, atol=1e-6)
    shutil.rmtree(tmp_path / "toy")
