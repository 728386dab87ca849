"""A/B tests: who gets which version, and that nobody's changes without need."""

from __future__ import annotations

from collections import Counter

import pytest
from impression_tools import V1, V2

from headrace.errors import InvalidSetting
from headrace.experiment import Arm, Experiment, experiment_of
from headrace.settings import ExperimentSettings

USERS = [f"user-{n}" for n in range(20_000)]


def assigned(experiment: Experiment) -> dict[str, str | None]:
    return {user: experiment.version_for(user) for user in USERS}


def test_arms_get_their_shares_and_the_live_version_the_rest() -> None:
    counts = Counter(assigned(Experiment("spring", [Arm(V1, 0.2), Arm(V2, 0.5)])).values())
    # Five standard deviations of a share of a half are 0.018.
    assert abs(counts[V1] / len(USERS) - 0.2) < 0.018
    assert abs(counts[V2] / len(USERS) - 0.5) < 0.018
    assert abs(counts[None] / len(USERS) - 0.3) < 0.018


def test_a_user_keeps_the_arm_unless_another_takes_the_place_over() -> None:
    before = assigned(Experiment("spring", [Arm(V1, 0.2)]))
    after = assigned(Experiment("spring", [Arm(V1, 0.3)]))
    assert all(after[user] == V1 for user, version in before.items() if version == V1)
    moved = sum(before[user] != after[user] for user in USERS)
    assert abs(moved / len(USERS) - 0.1) < 0.018
    # Worked out with hashlib by hand: it must be the same on every server and in every release.
    assert Experiment("spring", [Arm(V1, 0.5)]).version_for("43") == V1
    assert Experiment("spring", [Arm(V1, 0.5)]).version_for("42") is None


def test_another_name_splits_the_users_anew() -> None:
    spring, summer = (assigned(Experiment(n, [Arm(V1, 0.5)])) for n in ("spring", "summer"))
    same = sum(spring[user] == summer[user] for user in USERS)
    assert abs(same / len(USERS) - 0.5) < 0.018


def test_settings_name_arms_and_no_arms_are_no_experiment() -> None:
    assert not experiment_of(ExperimentSettings())
    found = experiment_of(ExperimentSettings(name="x", arms=f" {V1}=0.25 , {V2}=0.75"))
    assert (found.name, found.arms) == ("x", (Arm(V1, 0.25), Arm(V2, 0.75)))
    assert (found.share_of(V2), found.share_of("other")) == (0.75, None)


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        (V1, "is not VERSION=SHARE"),
        (f"{V1}=half", "is not VERSION=SHARE"),
        ("../../etc=0.5", "is not VERSION=SHARE"),
        (f"{V1}=0", "above 0"),
        (f"{V1}=nan", "above 0"),
        (f"{V1}=1.5", "above 0"),
        (f"{V1}=0.6,{V2}=0.6", "more than all users"),
        (f"{V1}=0.1,{V1}=0.2", "twice"),
    ],
)
def test_what_is_no_experiment_is_told_with_the_variable(arms: str, words: str) -> None:
    with pytest.raises(InvalidSetting, match=words) as caught:
        experiment_of(ExperimentSettings(arms=arms))
    assert str(caught.value).startswith("HEADRACE_EXPERIMENT_ARMS: ")
