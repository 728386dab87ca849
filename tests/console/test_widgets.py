"""What pages are built from: panels, questions, tables, messages, and parts that fail."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from nicegui import ElementFilter, ui
from nicegui.testing import user_simulation
from parts import eventually
from parts_tools import opened_visit

from console.errors import Trouble
from console.visit import Visit
from console.widgets.html import Tag, one_at_a_time
from console.widgets.shared import Nothing, Panel, confirmed
from console.widgets.table import LiveTable


async def test_what_goes_on_is_not_begun_a_second_time() -> None:
    done: list[str] = []
    goes_on = asyncio.Event()

    async def work() -> None:
        done.append("once more")
        await goes_on.wait()
        assert len(done) < 2, "this one breaks"

    start = one_at_a_time(work)
    first = asyncio.ensure_future(start())
    assert start() is None
    goes_on.set()
    await first
    for _ in range(2):
        with pytest.raises(AssertionError, match="this one breaks"):
            await start()
    assert done == ["once more"] * 3


async def test_a_panel_says_the_same_trouble_once_and_what_there_is_not_once_it_is_known() -> None:
    parts: list[tuple[Panel, Nothing]] = []

    def page() -> None:
        parts.append((Panel(opened_visit(), "Panel"), Nothing("Make some.")))

    async with user_simulation(page) as user:
        await user.open("/")
        [(panel, nothing)] = parts
        with user:

            def told(classes: str) -> list[Tag]:
                return [each for each in ElementFilter(kind=Tag) if classes in each.classes]

            panel.tell(Trouble("It is away.", ""))
            [card] = told("trouble-card")
            panel.tell(Trouble("It is away.", ""))
            assert told("trouble-card") == [card]
            panel.tell(Trouble("It is broken.", ""))
            assert told("trouble-card") != [card]
            panel.tell(None)
            assert told("trouble-card") == []
            assert [each.text for each in told("none")] == ["Loading …"] * 2
            nothing.show(True)
            assert told("none")[-1].text == "No data yet. Make some."


async def test_rows_stay_what_they_are_in_another_order() -> None:
    tables: list[LiveTable] = []
    async with user_simulation(lambda: tables.append(LiveTable("Routes", ("Route",)))) as user:
        await user.open("/")
        [table] = tables
        with user:

            def rows() -> list[Tag]:
                return [each for each in ElementFilter(kind=Tag) if each.tag == "tr"][1:]

            table.show({"a": ("a",), "b": ("b",)})
            first, second = rows()
            table.show({"b": ("b",), "c": ("c",), "a": ("a",)})
            assert (rows()[0], rows()[2]) == (second, first)
            table.show({"a": ("a",)})
            assert rows() == [first]


async def test_a_question_ends_with_its_page() -> None:
    visits: list[Visit] = []
    async with user_simulation(lambda: visits.append(opened_visit())) as user:
        await user.open("/")
        [visit] = visits
        with user:
            asked = asyncio.ensure_future(confirmed(visit, "Sure?", "It happens.", "Do it"))
            await asyncio.sleep(0)
            assert visit.is_asked
            for ending in ui.context.client.delete_handlers:
                await ending()  # type: ignore[misc]
            done, _ = await asyncio.wait([asked], timeout=10)
            assert done == {asked}
            assert asked.cancelled()
            assert not visit.is_asked
            late = asyncio.ensure_future(confirmed(visit, "Sure?", "It happens.", "Do it"))
            done, _ = await asyncio.wait([late], timeout=10)
            assert done == {late}


async def test_a_part_that_fails_says_so_until_it_works_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    works = asyncio.Event()
    done: list[str] = []

    async def look(name: str) -> None:
        if not works.is_set():
            raise KeyError(name)
        done.append(name)

    def page() -> None:
        visit = opened_visit()
        visit.every(0.1, partial(look, "looked"))
        visit.insist(0.1, partial(look, "insisted"))
        visit.run(look("once"))

    def told() -> list[str]:
        return [each.text for each in ElementFilter(kind=Tag) if each.text]

    async def tells(number: int) -> bool:
        return len(told()) == number

    async def goes_on() -> bool:
        return done.count("looked") > 2

    async with user_simulation(page) as user:
        await user.open("/")
        with user:
            await eventually(lambda: tells(6), "three parts say that they have failed")
            again = "It is tried again by itself. The console's log says more."
            assert told() == [
                "A part of this page has failed: KeyError: 'looked'.", again,
                "A part of this page has failed: KeyError: 'insisted'.", again,
                "A part of this page has failed: KeyError: 'once'.",
                "Load the page again. The console's log says more.",
            ]  # fmt: skip
            works.set()
            await eventually(lambda: tells(2), "what works again says nothing")
            await eventually(goes_on, "it goes on")
    assert done.count("insisted") == 1
    assert caplog.text.count("KeyError: 'looked'") == 1


async def test_what_went_wrong_is_said_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.visit._TOAST_S", 0.0)
    visits: list[Visit] = []

    def said() -> list[str]:
        return [each.text for each in ElementFilter(kind=Tag) if each.text]

    async def only_what_is_bad() -> bool:
        return "done" not in said()

    async with user_simulation(lambda: visits.append(opened_visit())) as user:
        await user.open("/")
        [visit] = visits
        with user:
            visit.toast("It may have been done.", "bad")
            visit.toast("done", "good")
            await eventually(only_what_is_bad, "what is good goes by itself")
            assert said() == ["It may have been done."]
            for nth in range(9):
                visit.toast(f"no. {nth}", "bad")
            # They do not cover the page.
            assert said() == [f"no. {nth}" for nth in range(5, 9)]
