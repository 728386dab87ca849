"""What Live and Models are made of, apart from any browser."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from nicegui import ElementFilter
from nicegui.testing import user_simulation

from console import formats
from console.pages.live.charts import marks
from console.pages.live.newest import newest
from console.pages.models.changes import answered, measured
from console.pages.models.gate import draw_verdict
from console.pages.models.train_form import told_of_undo
from console.widgets.html import Tag
from headrace_client.types import (
    Swap,
)

STEPS = [10.0, 20.0, 30.0, 40.0, 50.0]


def test_a_number_has_the_time_of_its_step_and_what_was_told_before_is_told_apart() -> None:
    never, before, late = [None] * 5, [2.0, None, None, None, None], [None, None, None, 1.5, None]
    last = [None, None, None, None, 4.0]

    def told(*series: Sequence[float | None]) -> tuple[str, float | None]:
        found = newest(STEPS, 10.0, 53.0, *series)
        return found.words(formats.rate), found.at

    assert told(never, never) == ("no data yet", None)
    # The end of the step that had the last of them.
    assert told(before, never) == ("none lately", 20.0)
    assert told(late, late, before) == ("3/s", 50.0)
    # A step that is not over yet ends with what was told last; a sum is as old as its oldest part.
    assert told(last) == ("4/s", 53.0)
    assert told(last, late) == ("5.5/s", 50.0)


def swap(version: str, at: float, model_id: str = "shop") -> Swap:
    """Return that a version went live."""
    return Swap(model_id=model_id, version=version, at=at, reason="")


def test_swaps_are_named_where_there_is_room_and_by_model_where_there_are_several() -> None:
    near = [swap("2026-old", -5.0), swap("2026-a", 1.0), swap("2026-b", 2.0), swap("2026-c", 50.0)]
    named = [(mark.at, mark.name) for mark in marks(near, 0.0, 100.0)]
    assert named == [(1.0, ""), (2.0, "b"), (50.0, "c")]
    two = [swap("2026-a", 1.0), swap("2026-b", 50.0, "books")]
    assert [mark.name for mark in marks(two, 0.0, 100.0)] == ["shop a", "books b"]


def verdict(**fields: object) -> dict[str, object]:
    """Return a verdict of the gate: worse, but not by more than chance, but for these fields."""
    usual = {
        "accepted": True, "reason": "Not worse.", "against": "2026-a", "events": 1_515,
        "low": -0.078, "high": 0.055, "difference": -0.014, "tolerance": 0.02,
    }  # fmt: skip
    return {**usual, **fields}


@pytest.mark.parametrize("events", [1_515, 0])
async def test_a_gate_that_measured_nothing_shows_no_interval(events: int) -> None:
    of_gate = {"gate_difference": 0.0, "ndcg_at_10": 0.112}
    version = {"metrics": of_gate, "verdict": verdict(events=events)}
    assert measured(version) == (of_gate if events else {"ndcg_at_10": 0.112})
    assert measured({**version, "verdict": None}) == of_gate
    async with user_simulation(lambda: draw_verdict(verdict(events=events))) as user:
        await user.open("/")
        with user:
            shown = {each.tag: each for each in ElementFilter(kind=Tag)}
            assert shown["p"].text
            assert ("svg" in shown) == bool(events)
            if events:
                said = shown["svg"].props["aria-label"]
                assert "NDCG@10 \N{MINUS SIGN}1.4 % to 2026-a" in said
                assert "tolerance 2.0\u00a0%" in said
                ends = [each.text for each in ElementFilter(kind=Tag) if each.tag == "text"]
                assert ends == ["\N{MINUS SIGN}7.8 %", "0 %", "+7.8 %"]


def test_no_more_is_promised_of_a_version_than_is_so() -> None:
    shares = [{"share": None}, {"share": 0.1}]
    assert answered(shares[:1]) == "all requests"
    but = " but those of users to whom the A/B test gives another version"
    assert answered(shares) == answered([]) + but
    assert "and rolled back" in told_of_undo(can_roll_back=True)
    assert "needs a key with the scope admin" in told_of_undo(can_roll_back=False)
