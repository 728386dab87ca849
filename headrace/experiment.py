"""A/B tests: which version of the model answers a user."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from headrace.errors import InvalidSetting
from headrace.setting_variables import variable_of
from headrace.settings import ExperimentSettings
from headrace.versions import VersionName


class Arm(Struct, frozen=True):
    """A version, and the share of the users that it answers."""

    version: str
    share: float


class Experiment:
    """Splits users between versions by a hash of their ids.

    A user is always answered by the same arm, on every server: the hash depends on the experiment's
    name and the user alone. Arms stand one after the other on [0, 1); changing a share moves
    the arms that follow along, and those users whose place another arm takes over.
    """

    def __init__(self, name: str, arms: Sequence[Arm]) -> None:
        self.name = name
        self.arms = tuple(arms)

    def __bool__(self) -> bool:
        return bool(self.arms)

    def version_for(self, user_id: str) -> str | None:
        """Return the version that answers this user, None for the one that is live."""
        place = _place(self.name, user_id)
        end = 0.0
        for arm in self.arms:
            end += arm.share
            if place < end:
                return arm.version
        return None

    def share_of(self, version: str) -> float | None:
        """Return the share of the users that an arm has, None for a version that is none."""
        return next((arm.share for arm in self.arms if arm.version == version), None)


def experiment_of(settings: ExperimentSettings) -> Experiment:
    """Return the experiment of these settings; without arms it is none.

    Raises `InvalidSetting`.
    """
    arms = [_arm(part.strip()) for part in settings.arms.split(",") if part.strip()]
    versions = [arm.version for arm in arms]
    if len(set(versions)) < len(versions):
        raise _wrong(settings.arms, "names a version twice")
    # A sum of shares is off by less than that.
    if sum(arm.share for arm in arms) > 1 + 1e-9:
        raise _wrong(settings.arms, "gives away more than all users: shares are at most 1 in all")
    return Experiment(settings.name, arms)


def _arm(part: str) -> Arm:
    name, _, share = part.partition("=")
    try:
        version = msgspec.convert(name.strip(), VersionName)
        arm = Arm(version, float(share))
    except (msgspec.ValidationError, ValueError) as exc:
        raise _wrong(part, "is not VERSION=SHARE, as in 20261122T021500Z-3fa9c1=0.5") from exc
    if not 0 < arm.share <= 1:
        raise _wrong(part, "has a share that is not above 0 and at most 1")
    return arm


def _wrong(value: str, reason: str) -> InvalidSetting:
    return InvalidSetting(f"{variable_of(('experiment', 'arms'))}: {value!r} {reason}.")


def _place(name: str, user_id: str) -> float:
    """Return where in [0, 1) a user stands in an experiment; evenly spread, and never 1."""
    digest = hashlib.blake2b(f"{name}/{user_id}".encode(), digest_size=8)
    # 53 bits are what a float holds exactly.
    return (int.from_bytes(digest.digest(), "big") >> 11) / 2.0**53
