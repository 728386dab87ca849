"""What Live and Models are made of, apart from any browser."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import msgspec
import pytest
from nicegui import ElementFilter
from nicegui.testing import user_simulation
from parts import eventually
from parts_tools import opened_visit

from console import formats
from console.pages.live.charts import (
    KINDS,
    TimeChart,
    begin_of,
    counted,
    legend_of,
    marks,
    series_of,
    short,
)
from console.pages.live.newest import newest
from console.pages.models import tasks
from console.pages.models.changes import answered, measured, told_of_metric
from console.pages.models.gate import draw_verdict
from console.pages.models.train_form import told_of_undo
from console.widgets.html import Tag
from console.widgets.parts import Chart
from headrace_client.errors import from_response
from headrace_client.types import Figures, Percentiles, Quality, QualitySeries, Swap

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
    assert named == [(2.0, "2 swaps to b"), (50.0, "c")]
    two = [swap("2026-a", 1.0), swap("2026-b", 50.0, "books")]
    assert [mark.name for mark in marks(two, 0.0, 100.0)] == ["shop a", "books b"]
    # Of many, each close to the next, there is room for a name each so often.
    many = [swap(f"2026-{at}", float(at)) for at in range(20)]
    assert [mark.at for mark in marks(many, 0.0, 100.0)] == [5.0, 11.0, 17.0, 19.0]
    assert marks(many, 0.0, 100.0)[-1].names == ("18", "19")


def test_a_legend_has_short_names_and_what_is_of_now_first() -> None:
    labels = ["20261201T010740Z-1d9b08", "popularity", "20261130T010740Z-03a9f5", "trending"]
    legend = legend_of(labels)
    assert [*map(short, legend)] == ["popularity", "trending", "1d9b08", "03a9f5"]


def figures(quality: dict[str, QualitySeries], swaps: Sequence[Swap] = ()) -> Figures:
    """Return figures of two steps of which nothing is known but the quality of lists."""
    none: list[float | None] = [None, None]
    no_percentiles = Percentiles(p50=none, p95=none, p99=none)
    return Figures(
        window="1h", step_s=10, at=[100, 110], events_per_s={}, lag={}, freshness_ms=no_percentiles,
        requests_per_s=none, client_errors_per_s=none, server_errors_per_s=none,
        latency_ms=no_percentiles, routes=[], quality=Quality(k=10, over_s=300, by_label=quality),
        swaps=list(swaps), told_at={},
    )  # fmt: skip


async def test_quality_says_of_how_many_events_it_is_and_shows_the_newest_swap() -> None:
    def of(*events: int) -> QualitySeries:
        return QualitySeries(events=[*events], hit_rate=[None, 1.0], ndcg=[None, 0.5])

    found = figures({"2026-a": of(0, 1_200), "popularity": of(0, 1)}, [swap("2026-a", 115.0)])
    assert counted(found) == {"2026-a": "1,200 events", "popularity": "1 event"}
    # It keeps its colour whatever versions there are.
    assert list(series_of(found)["hit_rate"]) == ["popularity", "2026-a"]
    charts: list[TimeChart] = []
    async with user_simulation(lambda: charts.append(TimeChart(opened_visit(), KINDS[0]))) as user:
        await user.open("/")
        with user:
            charts[0].show(found, 100.0)
            [chart] = ElementFilter(kind=Chart)
            assert chart.props["label"] == (
                "HR@10, rolling. Newest: popularity 1 of 1 event, 2026-a 1 of 1,200 events. "
                "Swaps: 2026-a."
            )
            options = chart.props["options"]
            # A point stands where its time ends: the first one after the chart's begin.
            assert (options["at"], options["xAxis"]["min"]) == ([110, 120], 100_000)
            assert options["shown"] == {
                "2026-a": "a: 1,200 events",
                "popularity": "popularity: 1 event",
            }
            assert options["legend"]["data"] == ["popularity", "2026-a"]
            # The tip of the step in which it was names it.
            assert options["series"][-1]["told"] == [[1, "a"]]
            # The last step is not over: what happens in it is within the chart.
            assert options["xAxis"]["max"] == 120_000.0


def test_charts_begin_with_the_first_value_there_is() -> None:
    none = [None] * 20
    found = msgspec.structs.replace(
        figures({}), at=list(range(20)), requests_per_s=[*none[:18], 1.0, None]
    )
    assert begin_of(found) == 18
    assert begin_of(msgspec.structs.replace(found, requests_per_s=none)) == 0


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
                legend = next(each for each in ElementFilter(kind=Tag) if "legend" in each.classes)
                assert "dashed line, at \N{MINUS SIGN}2.0 %, and all of the bar" in legend.text


def test_metrics_of_two_versions_are_told_and_not_compared() -> None:
    told = told_of_metric({"metrics": {"ndcg_at_10": 0.1414}}, "ndcg_at_10")
    assert told == "the one before: 0.141, on its own hold-out"
    assert told_of_metric({"metrics": {}}, "ndcg_at_10") == told_of_metric(None, "hr_at_10") == ""


async def test_a_log_that_cannot_be_read_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "_LOG_S", 0.0)
    asked: list[str] = []

    class Gone:
        async def task_log(self, task_id: str) -> str:
            asked.append(task_id)
            raise from_response(httpx.Response(404 if len(asked) > 2 else 504, text=""))

        async def close(self) -> None: ...

    def page() -> None:
        visit = opened_visit()
        visit.api = Gone()  # type: ignore[assignment]
        visit.run(tasks.show_log(visit, "t", lambda: None))

    async def is_over() -> bool:
        return len(asked) == 3

    async with user_simulation(page) as user:
        await user.open("/")
        with user:
            # What may come to be is asked for again.
            await eventually(is_over, "it is asked for until that is of no use")
            await asyncio.sleep(0.2)
            assert len(asked) == 3


def test_no_more_is_promised_of_a_version_than_is_so() -> None:
    shares = [{"share": None}, {"share": 0.1}]
    assert answered(shares[:1]) == "all requests"
    but = " but those of users to whom the A/B test gives another version"
    assert answered(shares) == answered([]) + but
    assert "and rolled back" in told_of_undo(can_roll_back=True)
    assert "needs a key with the scope admin" in told_of_undo(can_roll_back=False)
