"""A server that has too much in hand refuses more at once, and nothing else suffers for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from serving_tools import Serve, check_problem

from headrace.settings import ServingSettings, Settings
from headrace.topics import ensure_topics
from serving.admission import Admission

ASKED = {"user_interactions": {"item-1": {"timestamp": 1_704_060_026.0}}}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    """Ten milliseconds, 2 to 20 requests."""
    serving = ServingSettings(admission_target_ms=10, admission_least=2, admission_most=20)
    return Admission(serving, clock)


def window(admission: Admission, clock: Clock, *seconds: float) -> int:
    """Take as many requests in hand as may be, have them done in these times; return how many."""
    taken = 0
    while admission.enter():
        taken += 1
    for each in (seconds * taken)[:taken]:
        clock.now += 0.2 / taken
        admission.leave(each)
    return taken


def test_the_limit_falls_while_even_the_quickest_is_slow(
    admission: Admission, clock: Clock
) -> None:
    taken = [window(admission, clock, 0.02, 0.5) for _ in range(12)]
    assert taken[0] == 20
    assert taken == sorted(taken, reverse=True)
    assert taken[-1] == 2


def test_one_quick_answer_tells_that_no_queue_stands(admission: Admission, clock: Clock) -> None:
    for _ in range(12):
        assert window(admission, clock, *([0.002] + [0.5] * 4)) == 20


def test_the_limit_rises_again_under_load(admission: Admission, clock: Clock) -> None:
    for _ in range(12):
        window(admission, clock, 0.02)
    assert [window(admission, clock, 0.002) for _ in range(60)][-1] == 20


def test_what_a_stall_took_from_the_limit_comes_back_without_load(
    admission: Admission, clock: Clock
) -> None:
    for _ in range(3):
        window(admission, clock, 0.02)
    assert admission.limit < 10
    for _ in range(40):
        assert admission.enter()
        clock.now += 0.2
        admission.leave(0.002)
    assert admission.limit == 20


def test_what_is_slow_by_itself_is_no_queue(admission: Admission, clock: Clock) -> None:
    for _ in range(50):
        assert admission.enter()
        clock.now += 1
        admission.leave(1.0)
    assert admission.limit == 20


def test_who_waits_for_something_else_is_not_in_hand(admission: Admission) -> None:
    assert admission.enter()
    with admission.aside({}):
        assert admission.in_hand == 0
    assert admission.in_hand == 1


def test_without_a_target_all_are_taken(clock: Clock) -> None:
    admission = Admission(ServingSettings(admission_target_ms=0, admission_most=1), clock)
    assert all(admission.enter() for _ in range(100))


@pytest.fixture
def shipped(clock: Clock) -> Admission:
    """With the settings' defaults, on a server that has a core to itself and uses it up."""
    return Admission(ServingSettings(), clock, worked=clock)


def rush(admission: Admission, clock: Clock, windows: int, per_s: float = 1_000.0) -> list[int]:
    """Ask for all that may be, for so many windows; return the limits.

    So many a second are answered, one after the other: who is n-th in hand waits for n.
    """
    limits = []
    for _ in range(windows):
        ends = clock.now + 0.1
        while clock.now < ends:
            while admission.enter():
                pass
            clock.now += 1 / per_s
            admission.leave(admission.in_hand / per_s)
        limits.append(admission.limit)
    while admission.in_hand:
        clock.now += 1 / per_s
        admission.leave(admission.in_hand / per_s)
    return limits


def calm(admission: Admission, clock: Clock, requests: int, seconds: float = 0.001) -> None:
    for _ in range(requests):
        assert admission.enter()
        clock.now += 0.02
        admission.leave(seconds)


def test_a_server_that_is_used_up_takes_at_once_what_it_answers_soon(
    shipped: Admission, clock: Clock
) -> None:
    # It takes a millisecond, so five are soon, and 1,000 a second are five in that time.
    calm(shipped, clock, 100)
    assert shipped.limit == 256
    limits = rush(shipped, clock, 20)
    # It takes as long to work off what was taken before.
    assert limits[5] == 8
    assert max(limits[5:]) <= 10


def test_a_server_that_others_keep_from_its_work_goes_on_taking(clock: Clock) -> None:
    idle = Clock()
    starved = Admission(ServingSettings(), clock, worked=idle)
    calm(starved, clock, 100)
    # 256 in hand at 10,000 a second: 26 ms, more than usual and less than the target.
    assert set(rush(starved, clock, 20, per_s=10_000.0)) == {256}


def test_after_a_rush_and_a_rest_a_burst_is_taken(shipped: Admission, clock: Clock) -> None:
    calm(shipped, clock, 100)
    rush(shipped, clock, 5)
    clock.now += 5.0
    calm(shipped, clock, 1)
    assert shipped.limit == 256


@pytest.fixture
async def narrow(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that takes two requests for recommendations at once."""
    ensure_topics(settings)
    serving = ServingSettings(admission_least=2, admission_most=2)
    async with serve(msgspec.structs.replace(settings, serving=serving)) as client:
        yield client


async def test_too_many_requests_get_503_at_once_and_the_others_their_answers(
    narrow: httpx.AsyncClient,
) -> None:
    event = {"type": "click", "event_id": "e", "user_id": "u", "item_id": "i", "timestamp": 1.0}
    *answers, sent, live, metrics = await asyncio.gather(
        *(narrow.post("/v1/recommendations", json=ASKED) for _ in range(30)),
        narrow.post("/v1/events", json=event),
        narrow.get("/livez"),
        narrow.get("/metrics"),
    )
    assert Counter(answer.status_code for answer in answers) == {200: 2, 503: 28}
    for answer in answers:
        if answer.status_code == 503:
            check_problem(answer, 503, "try again")
            assert int(answer.headers["retry-after"]) >= 1
    assert [sent.status_code, live.status_code, metrics.status_code] == [202, 200, 200]
    told = (await narrow.get("/metrics")).text
    assert "headrace_requests_refused_total 28.0" in told
    assert "headrace_requests_in_hand 0.0" in told
    # Nobody is shut out for good.
    assert (await narrow.post("/v1/recommendations", json=ASKED)).status_code == 200


async def test_whoever_waits_for_an_event_takes_no_ones_place(narrow: httpx.AsyncClient) -> None:
    event = {"type": "click", "event_id": "e", "user_id": "u", "item_id": "i", "timestamp": 1.0}
    sent = (await narrow.post("/v1/events", json=event)).json()["events"][0]
    asked = {"user_id": "u", "after": sent["token"], "timeout_ms": 1_000}
    waiting = [
        asyncio.create_task(narrow.post("/v1/recommendations", json=asked)) for _ in range(2)
    ]
    await asyncio.sleep(0.2)
    assert (await narrow.post("/v1/recommendations", json=ASKED)).status_code == 200
    assert [(await task).status_code for task in waiting] == [409, 409]


async def test_what_was_waited_for_an_event_is_not_held_against_the_server(
    settings: Settings, serve: Serve
) -> None:
    ensure_topics(settings)
    serving = ServingSettings(admission_least=1, admission_most=50, admission_target_ms=200)
    event = {"type": "click", "event_id": "e", "user_id": "u", "item_id": "i", "timestamp": 1.0}
    async with serve(msgspec.structs.replace(settings, serving=serving)) as client:
        sent = (await client.post("/v1/events", json=event)).json()["events"][0]
        asked = {"user_id": "u", "after": sent["token"], "timeout_ms": 600}
        for _ in range(2):
            answers = await asyncio.gather(
                *(client.post("/v1/recommendations", json=asked) for _ in range(4))
            )
            assert {answer.status_code for answer in answers} == {409}
        assert "headrace_admission_limit 50.0" in (await client.get("/metrics")).text


async def test_whoever_sends_slowly_takes_no_ones_place(narrow: httpx.AsyncClient) -> None:
    rest = asyncio.Event()

    async def halting() -> AsyncIterator[bytes]:
        whole = msgspec.json.encode(ASKED)
        yield whole[:10]
        await rest.wait()
        yield whole[10:]

    slow = [
        asyncio.create_task(narrow.post("/v1/recommendations", content=halting())) for _ in range(3)
    ]
    await asyncio.sleep(0.2)
    assert "headrace_requests_in_hand 0.0" in (await narrow.get("/metrics")).text
    assert (await narrow.post("/v1/recommendations", json=ASKED)).status_code == 200
    rest.set()
    # By then each needs a place as any other does.
    answers = Counter([(await task).status_code for task in slow])
    assert answers[200] >= 2
    assert answers[200] + answers[503] == 3
