"""The calls of a page as lines of curl, what a failed one means, and the watch over the server."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess

import httpx
import pytest
from parts import PATIENCE_S
from parts_tools import AWAY

from console.calls import Call, CallLog, curl_of
from console.connection import Health, Server, Watch
from console.errors import after_deed, trouble_of
from headrace_client import HeadraceError, Unreachable
from headrace_client.errors import Refused, from_response


def refusal(status: int) -> Refused:
    """Return what a proxy's page with this status is read as."""
    return from_response(httpx.Response(status, text="<html>"))


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


async def test_a_call_that_the_page_itself_gives_up_is_told_apart() -> None:
    told: list[Call] = []
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, Server(address).http(CallLog(told.append)) as client:
        calling = asyncio.create_task(client.get(f"{address}/v1/key"))
        while not told:  # noqa: ASYNC110 - the log has no event
            await asyncio.sleep(0.01)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
    assert [(each.status, each.cancelled) for each in told] == [(None, False), (None, True)]


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
            "`headrace status` says what runs. It is asked again by itself.",
            "`headrace status` says what runs. It may have been done: look before you do it again.",
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
