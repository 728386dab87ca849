"""What the console is made of, apart from any browser."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from typing import cast

import httpx
import msgspec
import pytest
from nicegui import ElementFilter, ui
from nicegui.testing import user_simulation
from nicegui.testing.user_interaction import UserInteraction
from parts import PATIENCE_S, eventually

from console import formats, sessions
from console.calls import Call, CallLog, curl_of
from console.connection import Health, Server, Watch
from console.errors import Trouble, after_deed, trouble_of
from console.limits import Limit
from console.pages.feed.cards import cards_of, moved
from console.pages.feed.controls import Limits, spread
from console.pages.items import search
from console.pages.items.item_form import read_attributes, read_categories
from console.pages.items.item_map import words_of
from console.pages.live.charts import marks
from console.pages.live.newest import newest
from console.pages.models.changes import answered, measured
from console.pages.models.gate import draw_verdict
from console.pages.models.train_form import read_parameters, read_time, told_of_undo
from console.pages.streams import letters
from console.pages.streams.questions import before_cancel, before_resume, promotable
from console.pages.streams.replays import Replays
from console.pages.streams.topics import partition_rows, topic_row
from console.sessions import IDLE_S, Sessions
from console.titles import Titles
from console.visit import Visit
from console.widgets.address import Address
from console.widgets.html import Tag, one_at_a_time
from console.widgets.shared import Nothing, Panel, confirmed
from console.widgets.table import LiveTable
from headrace_client import AsyncClient, HeadraceError, Unreachable
from headrace_client.errors import Refused, from_response
from headrace_client.types import (
    DeadLetter,
    FoundItems,
    Interaction,
    Item,
    ItemMap,
    KnownUser,
    ModelInfo,
    PartitionInfo,
    Reason,
    Recommendation,
    ReplayList,
    ReplayRequest,
    ReplayTask,
    ResendRequest,
    ResentLetter,
    Swap,
    TopicInfo,
)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (formats.count(12_345), "12,345"),
        (formats.count(None), "no data yet"),
        (formats.share(0.4123), "41.2\u00a0%"),
        (formats.points(-0.084), "\N{MINUS SIGN}8.4"),
        (formats.milliseconds(0.84), "0.84\u00a0ms"),
        (formats.milliseconds(43.2), "43\u00a0ms"),
        (formats.milliseconds(1_200), "1.20\u00a0s"),
        (formats.milliseconds(None), "no data yet"),
        (formats.duration(200), "3\u00a0min 20\u00a0s"),
        (formats.duration(90_000), "1\u00a0d 1\u00a0h"),
        (formats.rate(0.25), "0.25/s"),
        (formats.rate(0), "0/s"),
        (formats.plain(0.000123), "0.000123"),
        (formats.plain(True), "yes"),
        (formats.points(-0.0001), "+0.0"),
        (formats.change(-0.0001), "+0.000"),
        (formats.exact(12.99), "12.99"),
        (formats.exact(1234567.89), "1234567.89"),
        (formats.exact(0.0012345), "0.0012345"),
        (formats.exact(13.0), "13"),
        (formats.exact(1995), "1995"),
        (formats.exact(None), "null"),
        (formats.exact("null"), "null"),
    ],
)
def test_numbers_are_shown_as_people_read_them(shown: str, words: str) -> None:
    assert shown == words


@pytest.mark.parametrize(
    ("limit", "typed", "value"),
    [
        (Limit("integer", 1, 1_000), "20", 20),
        (Limit("number", 0.0001, 0.01), " 0.001 ", 0.001),
        (Limit("string", longest=5), "abc", "abc"),
        (Limit("enum", among=("full",)), "full", "full"),
    ],
)
def test_what_is_within_the_limits_is_read(limit: Limit, typed: str, value: object) -> None:
    assert limit.read(typed) == value


@pytest.mark.parametrize(
    ("limit", "typed", "named"),
    [
        (Limit("integer", 1, 1_000), "0", "0 is out of range: .* from 1 to 1,000"),
        (Limit("integer", 1, 1_000), "1.5", "'1.5' is not a whole number from 1 to 1,000"),
        (Limit("number", 0.0001, 0.01), "1", "1 is out of range: .* from 0.0001 to 0.01"),
        (Limit("number", 0.0001, 0.01), "nan", "nan is out of range"),
        (Limit("string", longest=5), "abcdef", "6 characters"),
        (Limit("enum", among=("full",)), "half", "one of full"),
    ],
)
def test_what_is_not_says_what_it_may_be(limit: Limit, typed: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        limit.read(typed)


def refusal(status: int) -> Refused:
    """Return what a proxy's page with this status is read as."""
    return from_response(httpx.Response(status, text="<html>"))


ATTRIBUTES = Limit(
    "object", entries=2,
    each=(Limit("string"), Limit("integer", -(2**53), 2**53), Limit("number"), Limit("boolean")),
)  # fmt: skip
CATEGORIES = Limit("array", entries=2, each=(Limit("string", longest=5),))
PARAMETERS = Limit(
    "object", entries=2, each=(Limit("number"),),
    names=Limit("string", longest=64, among=("dropout", "width", "heads")),
)  # fmt: skip


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (read_time("2026-11-01T00:00Z"), "2026-11-01T00:00Z"),
        (read_time("1970-01-01"), "1970-01-01"),
        (read_time("1700000000"), 1_700_000_000.0),
        (read_parameters("dropout=0.3\n\n width = 32 ", PARAMETERS), {"dropout": 0.3, "width": 32}),
        (read_attributes('{"a": 1, "b": true}', ATTRIBUTES), {"a": 1, "b": True}),
        (read_attributes(" ", ATTRIBUTES), {}),
        (read_categories("tea\n\n pots ", CATEGORIES), ["tea", "pots"]),
    ],
)
def test_times_parameters_and_what_items_hold_are_read(read: object, value: object) -> None:
    assert read == value


@pytest.mark.parametrize("typed", ["1950-01-01", "0001-01-01", "-1", "nan", "1e999", "soon"])
def test_no_time_is_before_1970_or_without_end(typed: str) -> None:
    with pytest.raises(ValueError, match=f"{typed!r} is no time"):
        read_time(typed)


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("dropout", "'dropout' is not a name, = and a number"),
        ("dropout=much", "dropout: 'much' is not a number"),
        ("dropout=inf", "dropout: inf is out of range"),
        ("dropout=0\ndropout=1", "dropout is there twice"),
        ("dropuot=1", "'dropuot' is no training parameter; did you mean dropout"),
        ("epochs=1", "epochs has a field of its own"),
        ("dropout=0\nwidth=8\nheads=1", "There are 3; there may be 2"),
    ],
)
def test_what_is_no_parameter_says_why(typed: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_parameters(typed, PARAMETERS)


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": 1e999}', "a: the number is too large"),
        ('{"a": 9007199254740993}', "a: 9007199254740993 is out of range"),
        ('{"a": "\\ud800"}', "half of a character"),
        ('{"a": {}}', "a: values must be text"),
        ('{"a": 1, "b": 2, "c": 3}', "There are 3; there may be 2"),
        ("[]", "an object in braces"),
        ("{", "It is not JSON"),
    ],
)
def test_what_no_item_can_hold_says_why(typed: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_attributes(typed, ATTRIBUTES)


@pytest.mark.parametrize(
    ("typed", "named"), [("a\nb\nc", "There are 3"), ("teapots", "7 characters")]
)
def test_categories_keep_to_their_limits(typed: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_categories(typed, CATEGORIES)


def test_a_line_of_curl_says_the_same_to_a_shell_and_holds_no_key() -> None:
    body = b'{"user_id": "o\'neil $HOME `id`"}'
    request = httpx.Request(
        "POST",
        "http://127.0.0.1:1/v1/recommendations?a=b",
        headers={"authorization": "Bearer hr_1_secret", "content-type": "application/json"},
        content=body,
    )
    line = curl_of(request)
    assert "secret" not in line
    shell = "curl() { printf '%s\\n' \"$@\"; }\n" + line
    environ = {"HEADRACE_URL": "http://it", "HEADRACE_API_KEY": "key"}
    said = subprocess.run(["sh", "-c", shell], env=environ, capture_output=True, text=True)
    assert said.stdout.splitlines() == [
        "-s", "http://it/v1/recommendations?a=b", "-H", "Authorization: Bearer key", "-d",
        body.decode(),
    ]  # fmt: skip


def test_a_body_too_long_for_a_line_is_not_cut_into_what_is_no_json() -> None:
    line = curl_of(httpx.Request("POST", "http://127.0.0.1:1/v1/events", content=b'["a"]' * 500))
    assert line.endswith(" -d @body.json # a body of 2,500 characters")


async def test_a_call_that_nobody_answers_is_told_of() -> None:
    told: list[Call] = []
    async with Server("http://127.0.0.1:9").http(CallLog(told.append)) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:9/v1/key")
    made, over = told
    assert (made.method, made.path, made.status, made.took_ms) == ("GET", "/v1/key", None, None)
    # Nobody waits for it any more.
    assert over == dataclasses.replace(made, took_ms=over.took_ms)
    assert over.took_ms is not None


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        ({}, Limits()),
        (
            {"cards": "24", "category": "Ring", "diversity": "0.5", "seen": "true"},
            Limits(24, "Ring", 0.5, True),
        ),
        ({"cards": "13", "diversity": "nan", "seen": "yes"}, Limits()),
        ({"cards": "", "diversity": "much"}, Limits()),
        ({"diversity": "1.1"}, Limits()),
    ],
)
def test_an_address_keeps_the_limits_of_a_feed(query: dict[str, str], limits: Limits) -> None:
    assert Limits.of(query) == limits
    assert Limits.of(limits.query()) == limits


def test_users_are_offered_with_long_sessions_and_with_short_ones() -> None:
    users = [KnownUser(user_id=str(n), interactions=n) for n in (3, 200, 9, 200, 1, 40, 7, 12, 5)]
    assert [each.interactions for each in spread(users, 5)] == [200, 40, 9, 5, 1]
    assert [each.interactions for each in spread(users[:2], 5)] == [200, 3]
    assert spread([], 5) == []


def test_cards_say_where_they_came_from_and_why() -> None:
    items = {"a": Item(item_id="a", title="Tea", categories=["Drinks"]), "c": Item(item_id="c")}
    lists = [
        Recommendation(id="a", score=0.5, because=[Reason(id="d", effect=-0.02)]),
        Recommendation(id="b", score=0.25),
        Recommendation(id="c", score=0.125),
    ]
    before = {"b": 1, "c": 3, "a": 2}
    met = {"d": Interaction(timestamp=1.0, rating=4.5, event="rating")}
    shown = cards_of(lists, items, before, met, by_model=True)
    assert [(each["title"], each["move"], each["moved"]) for each in shown] == [
        ("Tea", "up", "up 1"), ("b", "down", "down 1"), ("c", "", ""),
    ]  # fmt: skip
    assert shown[0]["because"] == [
        {"title": "d", "verb": "rated 4.5", "effect": "\N{MINUS SIGN}2.0 points", "for": False}
    ]
    assert moved(before, {"a": 1, "b": 2, "c": 3}) == 2
    assert shown[0]["score"] == "50.0\u00a0%"
    # Bars compare with the best of the list.
    assert [each["share"] for each in shown] == [1.0, 0.5, 0.25]
    assert [each["rated"] for each in shown] == [None] * 3
    [again] = cards_of(lists[:1], items, {}, {"a": met["d"]}, by_model=True)
    # What the user did with the other item is not known yet.
    assert (again["rated"], again["because"]) == (4.5, [])


def test_what_no_model_scored_shows_no_chance() -> None:
    lists = [Recommendation(id="a", score=0.01), Recommendation(id="b", score=0)]
    shown = cards_of(lists, {}, {}, {}, by_model=False)
    assert [(each["score"], each["share"]) for each in shown] == [("", 0.0)] * 2


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


def opened_visit() -> Visit:
    """Return a visit of the page that is being built, to a server that is away."""
    server, sessions = Server("http://127.0.0.1:9"), Sessions(time.time, "cookie")
    opened = sessions.find({"cookie": sessions.open(key="", name="", scopes=frozenset())})
    assert opened is not None
    visit = Visit(ui.context.client, server, Watch(server), opened)
    visit.draw_troubles()
    visit.draw_layers()
    return visit


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


AWAY = "Look at it with `headrace status`, start it with `headrace up`."


@pytest.mark.parametrize(
    ("error", "repeated", "done_once"),
    [
        (
            Unreachable("", not_sent=True),
            f"{AWAY} It is asked again by itself.",
            f"{AWAY} Nothing was changed; do it again.",
        ),
        (
            Unreachable("", not_sent=False),
            f"{AWAY} It is asked again by itself.",
            f"{AWAY} It may have been done: look before you do it again.",
        ),
        (
            refusal(429),
            "It is asked again by itself.",
            "Nothing was changed; do it again.",
        ),
        (
            refusal(504),
            "It is asked again by itself.",
            "It may have been done: look before you do it again.",
        ),
        (refusal(404), "", ""),
    ],
)
def test_what_is_asked_again_by_itself_is_no_deed(
    error: HeadraceError, repeated: str, done_once: str
) -> None:
    assert trouble_of(error, "http://it").cure == repeated
    assert trouble_of(error, "http://it", after_deed(error)).cure == done_once


def test_what_a_proxy_answers_is_told_with_its_status_and_the_address() -> None:
    said = trouble_of(refusal(502), "http://it").what
    assert said == "What answers at http://it says 502 Bad Gateway."


@pytest.mark.parametrize(
    ("lag", "is_known", "words"),
    [(None, True, "not read by workers"), (None, False, "not known"), (7, True, "7")],
)
def test_a_lag_that_is_not_known_is_not_said_to_be_none(
    lag: int | None, is_known: bool, words: str
) -> None:
    partition = PartitionInfo(
        partition=0, begin=0, end=9, newest=None, position=None, lag=lag, rate_in=0.0, rate_out=None
    )
    topic = TopicInfo(
        topic="clicks", name="clicks", id="a", records=9, newest=None, lag=lag, rate_in=0.0,
        rate_out=None, partitions=[partition],
    )  # fmt: skip
    assert topic_row(topic, is_known)[4] == words
    [row] = partition_rows(topic, is_known).values()
    assert (row[3], row[5]) == (words if lag is None else "none done", words)


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


async def test_who_listens_while_a_watch_ends_gets_another_one() -> None:
    closing, may_close = asyncio.Event(), asyncio.Event()

    class Slow(httpx.AsyncClient):
        async def __aexit__(self, *_: object) -> None:
            closing.set()
            await may_close.wait()

    class Away(Server):
        def http(self, log: CallLog | None = None) -> httpx.AsyncClient:
            return Slow(trust_env=False)

    told: list[Health] = []
    watch = Watch(Away("http://127.0.0.1:9"))
    watch.listen(told.append)()
    await closing.wait()
    closing.clear()
    end = watch.listen(told.append)
    end()
    # The second watch comes to its own end, too.
    await asyncio.wait_for(closing.wait(), PATIENCE_S)
    may_close.set()


def replay(name: str, **fields: object) -> ReplayTask:
    """Return a replay into a shadow that has ended well, but for these fields."""
    usual = {
        "id": name, "model_id": "shop", "into": "shadow", "status": "SUCCEEDED", "total": 9,
        "created_at": 0.0, "started_at": 0.0, "updated_at": 0.0,
    }  # fmt: skip
    return msgspec.convert({**usual, **fields}, ReplayTask)


@pytest.mark.parametrize(
    ("fields", "resume", "cancel"),
    [
        ({}, "goes on into shadow where it was left", "Resume goes on where it was left"),
        ({"total": None}, "had not begun; it begins to fill shadow, or goes on", "was left"),
        ({"total": None, "status": "QUEUED"}, "begins to fill shadow", "Resume asks for it again"),
        (
            {"total": None, "anew": True},
            "once what an earlier replay left there is del",
            "was left",
        ),
        ({"anew": True}, "goes on into shadow where it was left", "where it was left"),
        ({"into": None}, "begins again, into the live state", "begins again, and what was applied"),
        ({"dry_run": True}, "begins again; nothing is written", "counts from the beginning"),
        ({"action": "promote"}, "shadow becomes the live state", "Resume asks for it again"),
    ],
)
def test_what_comes_of_cancelling_and_resuming_is_said_of_each_kind_of_replay(
    fields: dict[str, object], resume: str, cancel: str
) -> None:
    asked = replay("a", **fields)
    question = before_resume(asked)
    assert resume in question.consequence
    assert cancel in before_cancel(asked).undo
    # What deletes is warned of, as when the replay was asked for.
    deletes = asked.anew and asked.total is None
    assert ("What is deleted cannot be brought back." in question.undo) == deletes
    assert question.danger == (deletes or asked.action == "promote")


def test_a_shadow_is_promoted_from_the_replay_that_filled_it_last() -> None:
    first, other = replay("first"), replay("other", into="other")
    assert promotable([other, first]) == {"other", "first"}
    refused, dry = replay("a", status="FAILED", total=None), replay("b", dry_run=True)
    waits = replay("c", action="promote", status="CANCELLED", started_at=None, total=None)
    assert promotable([refused, dry, waits, first]) == {"first"}
    assert promotable([replay("later"), first]) == {"later"}
    assert promotable([replay("broken", status="CANCELLED"), first]) == set()
    assert promotable([replay("live", action="promote", total=None), first]) == set()


class Faint:
    """Stands for the API of a server that does not answer the next so many deeds."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def replays(self) -> ReplayList:
        return ReplayList(replays=[replay("dry", dry_run=True)])

    async def start_replay(self, request: ReplayRequest) -> ReplayTask:
        if not request.dry_run:
            self._fail()
        return replay("dry", dry_run=request.dry_run)

    async def resend(self, letter_id: str, _: ResendRequest) -> ResentLetter:
        self._fail()
        return ResentLetter(
            id=letter_id, topic="ratings", key="ann", value="", sent=False, token=None
        )

    async def close(self) -> None: ...

    def _fail(self) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise Unreachable("", not_sent=True)


def faint_visit(failures: int) -> Visit:
    """Return a visit to that server."""
    visit = opened_visit()
    visit.api = Faint(failures)  # type: ignore[assignment]
    return visit


def buttons(words: str) -> list[Tag]:
    """Return the buttons that say this."""
    return [each for each in ElementFilter(kind=Tag) if (each.tag, each.text) == ("button", words)]


async def can_click(words: str) -> bool:
    return any(not each.is_disabled for each in buttons(words))


async def is_said(words: str) -> bool:
    return any(words in each.text for each in ElementFilter(kind=Tag))


async def test_a_replay_that_could_not_be_asked_for_needs_no_other_dry_run() -> None:
    async with user_simulation(lambda: Replays(faint_visit(1))) as user:
        await user.open("/")
        with user:

            async def click(words: str) -> None:
                await eventually(lambda: can_click(words), f"{words} can be clicked")
                UserInteraction(user, set(buttons(words)), None).click()

            async def is_answered() -> bool:
                return not buttons("Replay")

            await click("Dry run")
            for told, again in (("do it again.", True), ("The replay is queued.", False)):
                await click("Replay …")
                await click("Replay")
                await eventually(lambda told=told: is_said(told), told)
                await eventually(is_answered, "the question is gone")
                assert await can_click("Replay …") == again


async def test_a_letter_that_could_not_be_checked_is_checked_again_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(letters, "AGAIN_S", 0.5)
    letter = DeadLetter(
        id="0/1", buried_at=0.0, topic="ratings", partition=0, offset=1, field="", reason="",
        resent=False, key=None, key_base64=None, value="{}", value_base64=None,
    )  # fmt: skip

    def page() -> None:
        visit = faint_visit(1)
        visit.run(letters.Mender(visit, letter).ask())

    async with user_simulation(page) as user:
        await user.open("/")
        with user:
            told = f"The server at http://127.0.0.1:9 does not answer. {AWAY} It is asked again"
            await eventually(lambda: is_said(told), "why there is no answer is said")
            assert not await can_click("Send again")
            await eventually(lambda: is_said("A worker would take it"), "it is checked again")
            assert await can_click("Send again")


async def test_an_item_that_was_changed_is_read_anew() -> None:
    there = {"tea": "Tea"}

    class Catalogue:
        async def items(self, ids: list[str]) -> FoundItems:
            items = [Item(item_id=each, title=there[each]) for each in ids]
            return FoundItems(items=items, count=len(items), offset=0, categories={})

    titles = Titles(cast("AsyncClient", Catalogue()))
    shown = []
    for title in ("Tea", "Mate"):
        there["tea"] = title
        await titles.find(["tea"])
        shown.append(titles.known["tea"].title)
    titles.forget("tea")
    await titles.find(["tea"])
    assert [*shown, titles.known["tea"].title] == ["Tea", "Tea", "Mate"]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (2, "All 2 items of v, each in the colour of its first category"),
        (9, "2 of 9 items of v, the most popular of late, each in the colour"),
    ],
)
def test_a_map_says_what_it_leaves_out(count: int, words: str) -> None:
    found = ItemMap(
        model=ModelInfo(id="shop", version="v"), ids=["a", "b"], titles=[None, None],
        categories=[None, None], x=[0, 1], y=[0, 1], count=count, explained=0.5,
    )  # fmt: skip
    assert words_of(found).startswith(words)


def test_a_session_is_in_use_while_a_page_of_it_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_MOST", 2)
    now = 1_000.0
    kept = Sessions(lambda: now, "cookie")
    told: list[str] = []

    def come_in(name: str) -> dict[str, str]:
        return {"cookie": kept.open(key=name, name=name, scopes=frozenset())}

    first = come_in("first")
    found = kept.find(first)
    assert found is not None
    ending = partial(told.append, "first")
    found.page_opened(ending)
    now += IDLE_S + 1
    assert kept.find(first) is found
    now += IDLE_S + 1
    second = come_in("second")
    # There is room for two: the one that nobody looks at goes.
    third = come_in("third")
    assert (kept.find(second), told) == (None, [])
    assert kept.find(third) is not None
    found.page_closed(ending)
    now += IDLE_S - 1
    assert kept.find(first) is found
    found.page_opened(ending)
    kept.close(first)
    assert (kept.find(first), told) == (None, ["first"])


async def test_a_catalogue_that_was_empty_is_shown_once_it_is_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "_LOOK_S", 0.05)
    there: list[Item] = []

    class Catalogue:
        async def items(self, *_: object, **__: object) -> FoundItems:
            categories = {"Drinks": len(there)} if there else {}
            return FoundItems(items=there, count=len(there), offset=0, categories=categories)

        async def close(self) -> None: ...

    def page() -> None:
        visit = opened_visit()
        visit.api = Catalogue()  # type: ignore[assignment]
        search.Search(visit, Address({}))

    async with user_simulation(page) as user:
        await user.open("/")
        with user:

            def shown(words: str) -> bool:
                return any(words in each.text for each in ElementFilter(kind=Tag))

            async def says(words: str) -> bool:
                return shown(words)

            await eventually(lambda: says("No data yet. The catalogue is empty"), "it is empty")
            there.append(Item(item_id="tea", title="Tea"))
            await eventually(lambda: says("1 to 1 of 1"), "the item is shown")


def test_a_session_ends_with_leaving_and_by_itself() -> None:
    now = 1_000.0
    sessions = Sessions(lambda: now, "cookie")
    told: list[str] = []
    ids = [sessions.open(key=key, name="", scopes=frozenset()) for key in ("one", "two")]
    first, second = ({"cookie": each} for each in ids)
    found = sessions.find(first)
    assert found is not None
    assert (found.key, "one" in repr(found)) == ("one", False)
    found.endings.add(lambda: told.append("left"))
    sessions.close(first)
    assert (sessions.find(first), told) == (None, ["left"])
    now += IDLE_S + 1
    assert sessions.find(second) is None
    assert sessions.find({"cookie": "guessed"}) is None
