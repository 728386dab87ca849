"""`headrace models`: versions beside each other, with how users take their lists."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from headrace.commands import show

MODEL = {"id": "default", "deleted": False, "rollback": "older"}


def version(name: str, **more: Any) -> dict[str, Any]:
    return {
        "version": name, "created_at": 1_704_060_026.0, "live": False, "share": None,
        "pinned": False, "verdict": None,
        "data": {"events": 1_000}, "metrics": {"hr_at_10": 0.25}, "evaluation": None, **more,
    }  # fmt: skip


def evaluation(events: int, hit_rate: float) -> dict[str, Any]:
    return {"k": 10, "events": events, "hit_rate": hit_rate, "ndcg": 0.125, "window_s": 604_800.0}


def shown(versions: list[dict[str, Any]], trending: dict[str, Any] | None) -> list[str]:
    console = Console(width=200)
    with console.capture() as capture:
        show.versions(MODEL, {"versions": versions, "trending": trending}, console)
    return capture.get().splitlines()


def test_arms_stand_beside_the_live_version_with_their_figures() -> None:
    rows = shown(
        [
            version("new", share=0.3, evaluation=evaluation(400, 0.2)),
            version("old", live=True, evaluation=evaluation(2_500, 0.5)),
            version("older"),
        ],
        evaluation(100, 0.0),
    )
    assert rows[0] == "default"
    assert rows[1].split()[1:7] == ["created", "events", "HR@10", "NDCG@10", "after", "metrics"]
    # sqrt(0.2 * 0.8 / 400) = 0.02, sqrt(0.5 * 0.5 / 2500) = 0.01
    assert rows[2].split()[0:2] == ["new", "30%"]
    assert rows[2].split()[-6:] == ["0.2000", "±0.0200", "0.1250", "400", "hr_at_10", "0.25"]
    assert rows[3].split()[0:2] == ["old", "live"]
    assert rows[3].split()[-6:] == ["0.5000", "±0.0100", "0.1250", "2,500", "hr_at_10", "0.25"]
    assert rows[4].split()[0:2] == ["older", "before"]
    assert rows[4].split()[-3:] == ["1,000", "hr_at_10", "0.25"]
    assert rows[5].split() == ["trending", "items", "0.0000", "±0.0000", "0.1250", "100"]
    assert rows[6] == "HR and NDCG: 7 days until now, after so many positive events"


def test_where_nothing_was_judged_no_figure_is_shown() -> None:
    rows = shown([version("only")], None)
    assert len(rows) == 3
    assert shown([], None)[-1].strip() == "no version yet; `headrace train` makes one."
