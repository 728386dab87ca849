"""What the tests of the server share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx
from events_log import NOW, logged
from parts import eventually

from headrace.sessions import SessionStore
from headrace.settings import Settings

V1, V2, V3 = (f"2024010{day}T000000Z-00000a" for day in (1, 2, 3))
RING = 40
USERS = 40

Serve = Callable[[Settings], AbstractAsyncContextManager[httpx.AsyncClient]]


def ring(number: int) -> str:
    return f"item-{number % RING}"


async def activate(client: httpx.AsyncClient, version: str) -> None:
    """Put a version live and wait until the server has it."""
    answer = await client.post(f"/v1/models/default/versions/{version}/activate")
    assert answer.status_code == 200, answer.text
    await until_live(client, version)


async def until_live(client: httpx.AsyncClient, version: str) -> None:
    async def holds() -> bool:
        return (await client.get("/readyz")).json()["model"] == version

    await eventually(holds, f"{version} is live")


async def walk(sessions: SessionStore, user_id: str, *numbers: int, first: int = 0) -> None:
    """Let a user meet these items of the ring, a minute apart, at offsets from `first` on."""
    await sessions.apply(
        [
            logged(first + at, user_id, ring(number), NOW + 60.0 * (first + at), rating=5.0)
            for at, number in enumerate(numbers)
        ]
    )


def check_problem(answer: httpx.Response, status: int, words: str = "") -> dict:  # type: ignore[type-arg]
    """Check that the answer is a problem document of this status; return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert words in problem["detail"]
    return problem
