"""Whether a version that was just trained goes live, and what its task says of it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from headrace.errors import ChangeRefused
from headrace.version_store import VersionStore
from headrace.versions import ROLLED_BACK, LiveVersion, Manifest

_KEPT = frozenset({"pinned"})
"""Why a version that is good is kept and not served."""


class Outcome(Struct, frozen=True, kw_only=True):
    """How a task ends whose training came to a version."""

    status: Literal["SUCCEEDED", "REJECTED"] = "SUCCEEDED"
    step: str
    error: str | None = None


async def admit(
    versions: VersionStore, manifest: Manifest, *, reason: str, now: float, fence: int = 0
) -> Outcome:
    """Put a version live unless its verdict, a pin, or what happened meanwhile keeps it out.

    Raises `redis.exceptions.RedisError`, after which the version may be live or not.
    """
    verdict = manifest.verdict
    if verdict is not None and not verdict.accepted:
        advice = f"`headrace models activate {manifest.version}` serves it all the same."
        return Outcome(
            status="REJECTED", step="rejected", error=f"{verdict.reason} It is kept; {advice}"
        )
    # The verdict is about the version that was live then: another one it says nothing of.
    expected = "*" if verdict is None else verdict.live
    try:
        await versions.activate(
            manifest.model_id,
            manifest.version,
            now=now,
            reason=reason,
            expected=expected,
            unasked=True,
            fence=fence,
        )
    except ChangeRefused as exc:
        if exc.why in _KEPT:
            return Outcome(step=f"kept, not live: {exc}")
        return Outcome(status="REJECTED", step="rejected", error=f"{exc} {_advice(exc, manifest)}")
    return Outcome(step="live")


async def chosen_since(versions: VersionStore, live: LiveVersion, last: str) -> str | None:
    """Return in words that ops put the live version in the place of `last`; None: they did not."""
    if live.version == last:
        return None
    history = await versions.history(live.model_id)
    # One that a pin has kept out is none that they went back from.
    if not live.is_by_hand or all(each.version != last for each in history):
        return None
    if live.reason == ROLLED_BACK:
        return "ops rolled it back"
    return f"ops put {live.version} live since"


def _advice(refused: ChangeRefused, manifest: Manifest) -> str:
    version = manifest.version
    if refused.why in ("gone", "deleted"):
        return "Ask for another training."
    return (
        f"Version {version} is kept: `headrace models activate {version}` serves it all the same, "
        "another training is measured beside what is live now."
    )
