"""The log of a real server: a line for each request, and nothing that was planted in one."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
from events_log import NOW
from parts import Part, eventually
from redis.asyncio import Redis

from headrace.keys import KeyStore, make_key
from headrace.local.ports import claim_port
from headrace.settings import ServingSettings, Settings
from headrace.topics import ensure_topics
from serving.request_log import hash_user

OWN = "planted-own-key"
UPGRADE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-key": "cGxhbnRlZC1ub25jZS0xMg==",
    "sec-websocket-version": "13",
}


async def test_the_log_tells_each_request_and_no_secret(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    ensure_topics(settings)
    keys = KeyStore(redis, settings)
    key, text = make_key(("recommend", "events"), now=time.time())
    await keys.add(key)
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    settings = msgspec.structs.replace(
        settings, api_key=OWN, serving=ServingSettings(port=port), log_level="DEBUG"
    )
    url = f"http://127.0.0.1:{port}"
    with Part("serve", settings, tmp_path) as server:
        async with httpx.AsyncClient(base_url=url) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready, "the server is ready")
            token = await plant(client, text)
        server.end(signal.SIGTERM)
        log = server.log()
    for secret in (OWN, "planted", text, text.split("_", 2)[2], token, token.partition(".")[2]):
        assert secret not in log
    lines = [msgspec.json.decode(line) for line in log.splitlines() if line.startswith("{")]
    told = [line for line in lines if line["route"] != "/readyz"]
    assert [(line["method"], line["route"], line["status"], line.get("key")) for line in told] == [
        ("POST", "/v1/users/{user_id}/token", 200, key.id),
        ("POST", "/v1/recommendations", 200, key.id),
        ("POST", "/v1/recommendations", 422, key.id),
        ("POST", "/v1/events", 202, key.id),
        ("POST", "/v1/events", 422, "settings"),
        ("GET", "/v1/users/{user_id}/interactions", 422, "settings"),
        ("GET", "/v1/users/{user_id}/recommendations/stream", 401, None),
        ("GET", "/v1/trending", 401, None),
        ("GET", "none", 404, None),
        ("DELETE", "/v1/users/{user_id}", 403, key.id),
        ("PUT", "/v1/items/{item_id}", 422, "settings"),
        ("other", "/v1/trending", 405, None),
    ]
    user = hash_user("planted-user", await keys.secret())
    assert [line.get("user") for line in told] == [
        user, user, None, user, None, user, user, None, None, user, None, None,
    ]  # fmt: skip
    assert all(line["ms"] > 0 and line["at"] > 0 for line in told)


async def plant(client: httpx.AsyncClient, key: str) -> str:
    """Make requests with secrets wherever one can be; return the token of a user."""
    user = "/v1/users/planted-user"
    limited, own = ({"authorization": f"Bearer {each}"} for each in (key, OWN))
    event: dict[str, Any] = {
        "type": "click",
        "event_id": "planted-event",
        "user_id": "planted-user",
        "item_id": "planted-item",
        "timestamp": NOW,
        "context": {"card": "planted-card"},
    }
    answer = await client.post(f"{user}/token", headers=limited, json={})
    token = str(answer.json()["token"])
    by_token = {"authorization": f"Bearer {token}", "cookie": "planted-cookie"}
    await client.post("/v1/recommendations", headers=by_token, json={"user_id": "planted-user"})
    await client.post("/v1/recommendations", headers=limited, json={"planted-field": "planted"})
    await client.post("/v1/events", headers=limited, json=event)
    await client.post("/v1/events", headers=own, content='{"planted": planted')
    await client.get(f"{user}/interactions?access_token=planted", headers=own)
    stream = f"{user}/recommendations/stream?access_token=planted-token"
    await client.get(stream, headers=UPGRADE)
    await client.get("/v1/trending", headers={"authorization": "Bearer planted-wrong"})
    await client.get("/v1/planted-path?key=planted")
    await client.delete(user, headers=limited)
    await client.put("/v1/items/planted%0A", headers=own, json={})
    await client.request("PROPFIND", "/v1/trending")
    return token


def test_users_are_told_apart_and_not_told() -> None:
    secret, other = b"a" * 32, b"b" * 32
    assert hash_user("ann", secret) == hash_user("ann", secret)
    assert len({hash_user("ann", secret), hash_user("bob", secret), hash_user("ann", other)}) == 3
    assert len(hash_user("ann" * 1_000, secret)) == 16
