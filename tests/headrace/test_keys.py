"""API keys in Redis, and the commands that make and revoke them."""

from __future__ import annotations

import hashlib
import time

import pytest
from command_line import headrace
from redis.asyncio import Redis

from headrace.errors import HeadraceError
from headrace.keys import SCOPES, KeyNotFound, KeyStore, make_key, split_key
from headrace.settings import Settings


@pytest.fixture
def keys(redis: Redis, settings: Settings) -> KeyStore:
    return KeyStore(redis, settings)


async def test_redis_never_holds_what_opens_anything(
    redis: Redis, settings: Settings, keys: KeyStore
) -> None:
    key, text = make_key(("events",), now=1.0)
    await keys.add(key)
    _, secret = split_key(text) or ("", "")
    assert len(secret) >= 43  # 256 bits at 6 a character
    [raw] = await redis.hvals(settings.key("api-keys"))
    assert secret.encode() not in raw
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in raw


async def test_keys_come_back_as_they_were_made(keys: KeyStore) -> None:
    first, _ = make_key(("events", "train"), now=1.0, name="feed", lives_s=10.0)
    second, _ = make_key(SCOPES, now=2.0, rate_per_s=2.5, burst=7)
    for key in (second, first):
        await keys.add(key)
    assert await keys.all() == [first, second]
    assert not first.has_expired(10.9)
    assert first.has_expired(11.0)
    assert not second.has_expired(1e12)
    await keys.remove(first.id)
    assert await keys.all() == [second]
    with pytest.raises(KeyNotFound, match=first.id):
        await keys.remove(first.id)


async def test_a_key_that_cannot_be_read_shuts_no_other_out(
    redis: Redis, settings: Settings, keys: KeyStore
) -> None:
    key, _ = make_key(("events",), now=1.0)
    await keys.add(key)
    await redis.hset(settings.key("api-keys"), "broken", b'{"id": "broken"}')
    assert await keys.all() == [key]


async def test_all_servers_share_one_secret(redis: Redis, settings: Settings) -> None:
    one, other = KeyStore(redis, settings), KeyStore(redis, settings)
    secret = await one.secret()
    assert len(secret) == 32
    assert await other.secret() == await one.secret() == secret


def test_what_no_key_can_have_is_named() -> None:
    with pytest.raises(HeadraceError, match=r"rate_per_s -1.*> 0"):
        make_key(("events",), now=1.0, rate_per_s=-1)
    with pytest.raises(HeadraceError, match="name"):
        make_key(("events",), now=1.0, name="a\nb")


async def test_a_key_is_made_listed_and_revoked_on_the_command_line(
    settings: Settings, keys: KeyStore
) -> None:
    environ = settings.environ()
    assert "no keys yet" in headrace("keys", "list", **environ).stdout
    made = headrace(
        "keys", "create", "--scope", "recommend,events", "--expires", "90d", "--name", "shop",
        "--rate", "50", "--burst", "100", **environ,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    key_id, secret = split_key(made.stdout.strip()) or ("", "")
    [key] = await keys.all()
    assert key.id == key_id
    assert key.is_of(secret)
    assert (key.scopes, key.name) == (("events", "recommend"), "shop")
    assert (key.rate_per_s, key.burst) == (50, 100)
    assert key.expires_at is not None
    assert key.expires_at - time.time() == pytest.approx(90 * 86400, abs=300)
    assert "not shown again" in made.stderr
    assert secret not in made.stderr
    listed = headrace("keys", "list", **environ).stdout
    assert key_id in listed
    assert "shop" in listed
    assert secret not in listed
    assert key.digest not in listed
    assert headrace("keys", "revoke", key_id, **environ).returncode == 0
    assert await keys.all() == []
    again = headrace("keys", "revoke", key_id, **environ)
    assert again.returncode == 1
    assert "headrace keys list" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scope", "events,all"], "--scope names 'all'; there are events, recommend"),
        (["--scope", ""], "--scope names nothing"),
        (["--scope", "events", "--expires", "soon"], "--expires 'soon' is no duration"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(arguments: list[str], words: str) -> None:
    ended = headrace("keys", "create", *arguments, HEADRACE_REDIS="redis://127.0.0.1:1/0")
    assert ended.returncode == 1
    assert words in ended.stderr


def test_a_redis_that_is_away_is_named_without_its_password() -> None:
    ended = headrace("keys", "list", HEADRACE_REDIS="redis://me:hush@127.0.0.1:1/0")
    assert ended.returncode == 1
    assert ended.stderr.startswith("headrace: Redis at redis://***@127.0.0.1:1/0 cannot be asked")
    assert "hush" not in ended.stderr
