"""Keys, their scopes and rates, and the tokens of users, over HTTP."""

from __future__ import annotations

import asyncio
import os
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import msgspec
import pytest
from events_log import NOW
from parts import OwnRedis, eventually
from redis.asyncio import Redis
from serving_tools import Serve, check_problem

from headrace.errors import InvalidSetting
from headrace.keys import SCOPES, ApiKey, KeyStore, Scope, make_key
from headrace.local.binaries import find_redis, redis_command
from headrace.local.ports import claim_port
from headrace.settings import ServingSettings, Settings
from headrace.store import connect
from headrace.topics import ensure_topics
from serving.app import ROUTES
from serving.exposure import check_exposure
from serving.routing import Guarded
from serving.user_tokens import UserToken, write_token

OWN = "the key of the settings"
BOB = {"type": "click", "event_id": "1", "user_id": "bob", "item_id": "i", "timestamp": NOW}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def keys(redis: Redis, settings: Settings) -> KeyStore:
    return KeyStore(redis, settings)


async def add(keys: KeyStore, *scopes: Scope, **more: Any) -> tuple[ApiKey, str]:
    key, text = make_key(scopes, now=time.time(), **more)
    await keys.add(key)
    return key, text


@asynccontextmanager
async def secured(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A server that asks for keys and looks for new ones all the time."""
    serving = ServingSettings(follow_s=0.02, user_rate_per_s=0)
    async with serve(msgspec.structs.replace(settings, api_key=OWN, serving=serving)) as client:
        yield client


async def is_taken(client: httpx.AsyncClient, key: str) -> bool:
    return (await client.get("/v1/trending", headers=bearer(key))).status_code == 200


def test_every_route_is_guarded_but_those_that_tell_of_nobody() -> None:
    free = {route.path for route in ROUTES if not isinstance(route, Guarded)}
    assert free == {"/livez", "/readyz", "/metrics", "/asyncapi.json", "/openapi.json", "/docs"}


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_key_opens_the_routes_of_its_scope_alone(
    settings: Settings, serve: Serve, keys: KeyStore, scope: Scope
) -> None:
    ensure_topics(settings)
    _, key = await add(keys, scope)
    async with secured(settings, serve) as client:
        for route in ROUTES:
            if not isinstance(route, Guarded):
                continue
            path = route.path.replace("{", "").replace("}", "")
            for method in sorted((route.methods or set()) - {"HEAD"}):
                # A stream that was let through would not end: this one is refused for its k.
                params = {"k": 0} if route.streams else None
                answer = await client.request(method, path, params=params, headers=bearer(key))
                if route.scope in (scope, None):
                    assert answer.status_code not in (401, 403), (method, path)
                else:
                    problem = check_problem(answer, 403, f"scope {route.scope}")
                    assert key not in str(problem)
                    challenge = answer.headers["www-authenticate"]
                    assert f'error="insufficient_scope", scope="{route.scope}"' in challenge


async def test_a_key_tells_what_it_is_for(settings: Settings, serve: Serve, keys: KeyStore) -> None:
    made, key = await add(keys, "recommend", "events", name="the feed", lives_s=900.0)
    async with secured(settings, serve) as client:
        told = (await client.get("/v1/key", headers=bearer(key))).json()
        assert told == {
            "id": made.id,
            "name": "the feed",
            "scopes": list(made.scopes),
            "expires_at": made.expires_at,
        }
        own = (await client.get("/v1/key", headers=bearer(OWN))).json()
        assert own == {"id": None, "name": "", "scopes": list(SCOPES), "expires_at": None}
        check_problem(await client.get("/v1/key", headers=bearer("hr_wrong")), 401, "not known")
        check_problem(await client.get("/v1/key"), 401, "Send an API key")
        token = bearer(await token_of(client, "bob", key, scopes=["recommend"]))
        check_problem(await client.get("/v1/key", headers=token), 403, "A user's token")


async def test_keys_made_revoked_and_expired_count_within_moments(
    settings: Settings, serve: Serve, keys: KeyStore
) -> None:
    async with secured(settings, serve) as client:
        # First: the server that knows the others has read it, too.
        _, short_text = await add(keys, "recommend", lives_s=0.0)
        old, old_text = await add(keys, "recommend", name="old")
        _, new_text = await add(keys, "recommend", name="new")
        for text in (old_text, new_text):
            await eventually(lambda text=text: is_taken(client, text), "both keys are taken")
        expired = await client.get("/v1/trending", headers=bearer(short_text))
        check_problem(expired, 401, "expired")
        assert 'error="invalid_token"' in expired.headers["www-authenticate"]
        await keys.remove(old.id)

        async def is_refused() -> bool:
            return not await is_taken(client, old_text)

        await eventually(is_refused, "a key that was revoked is refused")
        assert await is_taken(client, new_text)
        assert await is_taken(client, OWN)


async def test_what_is_only_like_a_key_is_refused(
    settings: Settings, serve: Serve, keys: KeyStore
) -> None:
    key, text = await add(keys, *SCOPES)
    async with secured(settings, serve) as client:
        for wrong in (
            text[:-1],
            text + "x",
            text[:-1] + ("A" if text[-1] != "A" else "B"),
            text.upper(),
            key.id,
            f"hr_{key.id}_",
            f"hr_{key.id}_{key.digest}",
            key.digest,
            "hr_",
            "hu_.",
            "hu_",
            "ü",
        ):
            headers = {"authorization": f"Bearer {wrong}".encode()}
            check_problem(await client.get("/v1/trending", headers=headers), 401)


async def test_on_the_loopback_the_first_key_shuts_the_server(
    settings: Settings, serve: Serve, redis: Redis, keys: KeyStore
) -> None:
    quick = msgspec.structs.replace(settings, serving=ServingSettings(follow_s=0.02))
    async with serve(quick) as client:
        assert (await client.get("/v1/trending")).status_code == 200
        key, text = await add(keys, "recommend")

        async def is_shut() -> bool:
            return (await client.get("/v1/trending")).status_code == 401

        await eventually(is_shut, "a key is asked for")
        assert await is_taken(client, text)
        # Also when it is gone.
        await keys.remove(key.id)

        async def is_refused() -> bool:
            return not await is_taken(client, text)

        await eventually(is_refused, "the key is refused")
        check_problem(await client.get("/v1/trending"), 401, "Send an API key")
        await redis.delete(settings.key("api-keys"), settings.key("api-keys", "asked"))
        await asyncio.sleep(3 * quick.serving.follow_s)
        check_problem(await client.get("/v1/trending"), 401, "Send an API key")


@pytest.mark.parametrize("left", ["none", "unreadable"])
async def test_a_server_that_starts_asks_for_the_keys_that_there_were(
    settings: Settings, serve: Serve, redis: Redis, keys: KeyStore, left: str
) -> None:
    key, _ = await add(keys, "recommend")
    if left == "none":
        await keys.remove(key.id)
    else:
        await redis.delete(settings.key("api-keys", "asked"))
        await redis.hset(settings.key("api-keys"), key.id, b"{")
    async with serve(settings) as client:
        check_problem(await client.get("/v1/trending"), 401, "Send an API key")


async def test_a_server_that_others_reach_never_opens(
    settings: Settings, serve: Serve, keys: KeyStore
) -> None:
    exposed = msgspec.structs.replace(
        settings,
        serving=ServingSettings(host="0.0.0.0", follow_s=0.02),  # noqa: S104
    )
    with pytest.raises(InvalidSetting, match="headrace keys create"):
        await asyncio.to_thread(check_exposure, exposed)
    key, text = await add(keys, "recommend")
    await asyncio.to_thread(check_exposure, exposed)
    async with serve(exposed) as client:
        assert await is_taken(client, text)
        await keys.remove(key.id)

        async def is_refused() -> bool:
            return not await is_taken(client, text)

        await eventually(is_refused, "the key is refused")
        check_problem(await client.get("/v1/trending"), 401)


def test_a_key_with_few_scopes_cannot_become_the_server_s_own() -> None:
    _, text = make_key(("events",), now=0.0)
    with pytest.raises(InvalidSetting, match="HEADRACE_API_KEY is a key that"):
        check_exposure(Settings(api_key=text))


async def test_known_keys_go_on_while_redis_is_away(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    port = claim_port(0, host="127.0.0.1", use="a test's Redis", option="")
    command = redis_command(find_redis(os.environ), port, tmp_path)
    with OwnRedis(command, port, tmp_path) as server:
        settings = msgspec.structs.replace(settings, redis=server.url)
        client_of_redis = connect(settings)
        _, text = await add(KeyStore(client_of_redis, settings), "recommend")
        await client_of_redis.aclose()
        async with secured(settings, serve) as client:
            server.stop()
            body = {"user_id": "bob"}
            answer = await client.post("/v1/recommendations", json=body, headers=bearer(text))
            assert answer.status_code == 200
            check_problem(
                await client.post("/v1/recommendations", json=body, headers=bearer("x")), 401
            )
            async with secured(settings, serve) as another:
                # It has never seen the keys: neither yes nor no would be true.
                unsure = await another.get("/v1/trending", headers=bearer(text))
                check_problem(unsure, 503, "cannot be read yet")
                assert unsure.headers["retry-after"]
                own = await another.post("/v1/recommendations", json=body, headers=bearer(OWN))
                assert own.status_code == 200
            server.start()


async def test_a_key_that_comes_too_often_is_told_when_to_come_again(
    settings: Settings, serve: Serve, keys: KeyStore
) -> None:
    _, slow = await add(keys, "recommend", rate_per_s=0.01, burst=2)
    _, other = await add(keys, "recommend")
    async with secured(settings, serve) as client:
        assert await is_taken(client, slow)
        assert await is_taken(client, slow)
        answer = await client.get("/v1/trending", headers=bearer(slow))
        check_problem(answer, 429, "0.01 requests a second, 2 at once")
        assert 90 <= int(answer.headers["retry-after"]) <= 100
        assert await is_taken(client, other)


async def token_of(client: httpx.AsyncClient, user: str, key: str, **body: Any) -> str:
    answer = await client.post(f"/v1/users/{user}/token", json=body, headers=bearer(key))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["user_id"] == unquote(user)
    return str(answer.json()["token"])


async def test_a_user_s_token_is_for_that_user_alone(
    settings: Settings, serve: Serve, keys: KeyStore
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    _, key = await add(keys, "recommend", "events")
    async with secured(settings, serve) as client:
        token = bearer(await token_of(client, "bob", key, scopes=["recommend", "events"]))

        async def status(path: str, body: Any) -> int:
            return (await client.post(path, json=body, headers=token)).status_code

        assert await status("/v1/recommendations", {"user_id": "bob"}) == 200
        assert await status("/v1/recommendations", {"user_id": "ann"}) == 403
        assert await status("/v1/recommendations", {"user_interactions": {}}) == 403
        of_model = "/v1/models/default/recommendations"
        assert await status(of_model, {"user_id": "bob"}) == 200
        assert await status(of_model, {"user_id": "ann"}) == 403
        assert await status("/v1/events", BOB) == 202
        assert await status("/v1/events", [BOB, {**BOB, "user_id": "ann"}]) == 403
        # What is no event goes nowhere, whoever it is of.
        wrong = {**BOB, "user_id": "ann", "rating": "x"}
        assert await status("/v1/events", [BOB, wrong]) == 202
        for user, hiding, listing in (("bob", 204, 200), ("ann", 403, 403)):
            hidden = f"/v1/users/{user}/hidden"
            assert (await client.put(f"{hidden}/i1", headers=token)).status_code == hiding
            assert (await client.delete(f"{hidden}/i1", headers=token)).status_code == hiding
            assert (await client.get(hidden, headers=token)).status_code == listing
        assert await status("/v1/users/bob/token", {}) == 403
        only_recommend = bearer(await token_of(client, "bob", key))
        refused = await client.post("/v1/events", json=BOB, headers=only_recommend)
        check_problem(refused, 403, "scope events")
        for route in ROUTES:
            if isinstance(route, Guarded) and not route.for_users:
                path = route.path.replace("{user_id}", "bob").replace("{", "").replace("}", "")
                for method in sorted((route.methods or set()) - {"HEAD"}):
                    assert (await client.request(method, path, headers=token)).status_code == 403, (
                        path
                    )


async def test_a_token_gives_no_more_than_the_key_behind_it(
    settings: Settings, serve: Serve, keys: KeyStore
) -> None:
    made, key = await add(keys, "recommend")
    async with secured(settings, serve) as client:
        more = await client.post(
            "/v1/users/bob/token", json={"scopes": ["events"]}, headers=bearer(key)
        )
        check_problem(more, 403, "scope events")
        longer = await client.post(
            "/v1/users/bob/token", json={"expires_s": 3601}, headers=bearer(key)
        )
        check_problem(longer, 422, "expires_s: Expected `int` <= 3600; it is 3601")
        token = await token_of(client, "bob", key)
        body = {"user_id": "bob"}

        async def taken(text: str) -> int:
            answer = await client.post("/v1/recommendations", json=body, headers=bearer(text))
            return answer.status_code

        assert await taken(token) == 200
        # Query parameters get into logs and histories: only streams take them.
        in_query = await client.post(f"/v1/recommendations?access_token={token}", json=body)
        check_problem(in_query, 401)
        await keys.remove(made.id)

        async def is_refused() -> bool:
            return await taken(token) == 401

        await eventually(is_refused, "the token of a key that was revoked is refused")


async def test_a_token_that_was_changed_or_is_old_is_refused(
    settings: Settings, serve: Serve, keys: KeyStore
) -> None:
    made, key = await add(keys, "recommend")
    async with secured(settings, serve) as client:
        token = await token_of(client, "bob", key)
        said, _, signature = token.removeprefix("hu_").partition(".")
        content = msgspec.json.decode(urlsafe_b64decode(said + "=="))
        assert content[0] == "bob"
        content[0] = "ann"
        forged = urlsafe_b64encode(msgspec.json.encode(content)).rstrip(b"=").decode()
        secret = await keys.secret()
        old = write_token(UserToken("bob", ("recommend",), time.time() - 1, made.id), secret)
        foreign = write_token(UserToken("bob", ("recommend",), 9e9, made.id), b"x" * 32)
        body = {"user_id": "bob"}
        for wrong in (f"hu_{forged}.{signature}", f"hu_{said}.", f"hu_{said}", old, foreign):
            answer = await client.post("/v1/recommendations", json=body, headers=bearer(wrong))
            check_problem(answer, 401)
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_pages_of_named_origins_may_call(settings: Settings, serve: Serve) -> None:
    shop = "https://shop.example"
    serving = ServingSettings(cors_origins=f"{shop}, https://other.example")
    asked = {
        "origin": shop,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    open_to_shop = msgspec.structs.replace(settings, api_key=OWN, serving=serving)
    async with serve(open_to_shop) as client:
        preflight = await client.options("/v1/recommendations", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == shop
        refused = await client.post("/v1/recommendations", headers={"origin": shop})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == shop
        stranger = {**asked, "origin": "https://evil.example"}
        answer = await client.options("/v1/recommendations", headers=stranger)
        assert "access-control-allow-origin" not in answer.headers
    async with serve(msgspec.structs.replace(settings, api_key=OWN)) as client:
        answer = await client.options("/v1/recommendations", headers=asked)
        assert "access-control-allow-origin" not in answer.headers


async def test_a_stream_takes_its_user_s_token_from_the_address(
    settings: Settings, serve: Serve, keys: KeyStore
) -> None:
    _, key = await add(keys, "recommend")
    async with secured(settings, serve) as client:
        token = await token_of(client, "a%2Fb", key)

        async def status(user: str, query: str, **headers: str) -> int:
            # Whoever is let through is told that k is wrong; a stream would not end.
            url = f"/v1/users/{user}/recommendations/stream?k=0&{query}"
            return (await client.get(url, headers=headers)).status_code

        assert await status("a%2Fb", f"access_token={token}") == 422
        assert await status("a%2fb", f"x=1&access_token={token}") == 422
        assert await status("a%2Fb", "", **bearer(token)) == 422
        assert await status("ann", f"access_token={token}") == 403
        assert await status("a%252Fb", f"access_token={token}") == 403
        assert await status("a%2Fb", "access_token=") == 401
        assert await status("a%2Fb", f"access_token={token[:-1]}") == 401
        # A key is worth more than a stream, and must not get used to standing in addresses.
        assert await status("a%2Fb", f"access_token={key}") == 401
        # The header is what counts when there are both.
        assert await status("a%2Fb", f"access_token={token}", **bearer("wrong")) == 401


async def test_a_right_that_a_key_loses_its_tokens_lose(
    settings: Settings, serve: Serve, keys: KeyStore
) -> None:
    made, key = await add(keys, "recommend", "events")
    async with secured(settings, serve) as client:
        token = bearer(await token_of(client, "bob", key, scopes=["events", "recommend"]))
        await keys.add(msgspec.structs.replace(made, scopes=("events",)))

        async def is_refused() -> bool:
            answer = await client.post(
                "/v1/recommendations", json={"user_id": "bob"}, headers=token
            )
            return answer.status_code == 403

        await eventually(is_refused, "the token lost a scope")
