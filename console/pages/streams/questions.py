"""What is asked before a replay is changed: what will happen, and what can be undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console import formats
from headrace_client.types import ReplayRequest, ReplayTask

ANEW = "Begin anew: delete a shadow that is there"
_LIVE = "the live state"
_KNOWN = "What workers have applied already changes nothing."
_STAYS = "What is applied to the live state stays."
_DELETED = "once what an earlier replay left there is deleted"
_FOR_GOOD = "What is deleted cannot be brought back."


@dataclass(frozen=True)
class Question:
    """A question, and what is said of its answer."""

    title: str
    consequence: str
    verb: str
    undo: str
    done: str
    """What is said once it is done."""
    danger: bool = False


def place(into: str | None) -> str:
    """Return what a replay writes to, in words."""
    return into or _LIVE


def _of(model_id: str) -> str:
    return f" of model {model_id}" if model_id else ""


def before_replay(request: ReplayRequest, dry: ReplayTask) -> Question:
    """Return what is asked before a replay begins. `dry`: its dry run, at its end."""
    into, counted = place(request.into), told_of_dry(dry)
    of = _of(request.model_id or "")
    if request.into is None:
        consequence, undo = f"{counted} {_KNOWN}", _STAYS
    else:
        deleted = f", {_DELETED}" if request.anew else ""
        consequence = f"{counted} They are replayed into {into}{of}{deleted}."
        undo = f"{_FOR_GOOD} " if request.anew else ""
        undo += (
            f"{into} is not served until it is promoted; a replay with “{ANEW}” begins it "
            "from nothing."
        )
    return Question(
        f"Replay into {into}{of}?",
        consequence,
        "Replay",
        undo,
        "The replay is queued.",
        danger=request.into is not None and request.anew,
    )


def before_cancel(replay: ReplayTask) -> Question:
    """Return what is asked before a replay is cancelled."""
    title, ends = "Cancel this replay?", "It ends within moments."
    verb, done = "Cancel the replay", "It is being cancelled."
    if replay.action == "promote":
        consequence = "It has not begun; the live state stays as it is."
        undo = "Resume asks for it again."
        title, verb = "Cancel this promotion?", "Cancel the promotion"
    elif replay.dry_run:
        consequence, undo = f"{ends} Nothing was written.", "Resume counts from the beginning."
    elif replay.into is None:
        consequence = f"{ends} What was applied stays."
        undo = f"Resume begins again, and what was applied changes nothing. {_STAYS}"
    elif replay.total is None and replay.status == "QUEUED":
        consequence = f"It has not begun; {replay.into} stays as it is."
        undo = "Resume asks for it again."
    else:
        consequence = f"{ends} What was applied stays."
        undo = "Resume goes on where it was left."
    return Question(title, consequence, verb, undo, done, danger=True)


def before_resume(replay: ReplayTask) -> Question:
    """Return what is asked before a replay that was cancelled or has failed is queued again."""
    if replay.action == "promote":
        return before_promotion(replay, "Go on with this promotion?", "Resume the promotion")
    into, undo = place(replay.into), "It can be cancelled again."
    deletes = False
    if replay.dry_run:
        title, consequence = "Count again?", "The dry run begins again; nothing is written."
    elif replay.into is None:
        title = "Begin this replay again?"
        consequence = f"It begins again, into {into}. {_KNOWN}"
        undo = f"{undo} {_STAYS}"
    elif replay.total is not None:
        title = "Go on with this replay?"
        consequence = f"It goes on into {into} where it was left."
    elif replay.anew:
        title, deletes = "Begin this replay?", True
        consequence = f"It had not begun; it begins to fill {into}, {_DELETED}."
        undo = f"{_FOR_GOOD} {undo}"
    else:
        title = "Begin this replay?"
        consequence = (
            f"It had not begun; it begins to fill {into}, or goes on with what the same replay "
            "left there."
        )
    return Question(title, consequence, "Resume", undo, "It is queued again.", danger=deletes)


def before_promotion(replay: ReplayTask, title: str = "", verb: str = "Promote") -> Question:
    """Return what is asked before the shadow of a replay becomes the live state of its model."""
    shadow = place(replay.into)
    return Question(
        title or f"Promote {shadow}?",
        f"{shadow} becomes the live state, in place of all sessions and counts there are"
        f"{_of(replay.model_id)}. Workers wait meanwhile, and go on where the replay ends.",
        verb,
        "Once it runs it cannot be cancelled. Another replay builds the state from the log again; "
        "take a backup to be sure.",
        "The promotion is queued.",
        danger=True,
    )


def told_of_dry(dry: ReplayTask) -> str:
    """Return what a dry run that has ended says of the replay."""
    if dry.goes_on:
        return f"It goes on where {place(dry.into)} was left, with {counted(dry)}."
    return f"The window has {counted(dry)}."


def counted(replay: ReplayTask) -> str:
    """Return how many records became of what: `12 new, 3 invalid`."""
    totals: dict[str, int] = {}
    for outcomes in replay.counts.values():
        for outcome, count in outcomes.items():
            totals[outcome] = totals.get(outcome, 0) + count
    if not totals:
        return "no records"
    named = {"read": "events to apply"}
    return ", ".join(
        f"{formats.count(count)} {named.get(outcome, outcome)}" for outcome, count in totals.items()
    )


def promotable(replays: Sequence[ReplayTask]) -> frozenset[str]:
    """Return the ids of the replays whose shadow still is what they made of it.

    `replays`: newest first. What wrote to the shadow since, or made it the live state, counts.
    """
    found: set[str] = set()
    changed: set[tuple[str, str | None]] = set()
    for replay in replays:
        shadow = (replay.model_id, replay.into)
        if replay.into is None or replay.dry_run or not _has_begun(replay):
            continue
        whole = replay.action == "replay" and replay.status == "SUCCEEDED"
        if whole and shadow not in changed:
            found.add(replay.id)
        changed.add(shadow)
    return frozenset(found)


def _has_begun(replay: ReplayTask) -> bool:
    """Return whether it has changed anything: before that a replay may be refused."""
    if replay.action == "promote":
        return replay.started_at is not None
    return replay.total is not None
