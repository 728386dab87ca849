"""API keys: who may call the HTTP API, and what for.

Redis holds what a key is recognised by, never the key itself: `hr_<id>_<secret>` is shown once.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct
from redis.asyncio import Redis

from headrace.errors import HeadraceError
from headrace.settings import Settings
from headrace.store import text

logger = logging.getLogger(__name__)

Scope = Literal["events", "recommend", "train", "admin", "erase"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "hr_"
_ID_BYTES = 6
_SECRET_BYTES = 32
_KEY = re.compile(r"hr_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")

Rate = Annotated[float, Meta(gt=0, le=1e6)]
Burst = Annotated[int, Meta(ge=1, le=1_000_000)]
KeyName = Annotated[str, Meta(max_length=100, pattern=r"^[ -~]*(?!\n)$")]


class ApiKey(Struct, frozen=True, kw_only=True):
    """What is known of a key."""

    id: str
    name: KeyName = ""
    scopes: tuple[Scope, ...]
    digest: str
    """sha256 of the secret, in hexadecimal. Slow hashes are for what people think up: 256 random
    bits cannot be guessed, and each request would pay for the slowness."""
    created_at: float
    """Unix seconds."""
    expires_at: float | None = None
    """Unix seconds; None: never."""
    rate_per_s: Rate | None = None
    """Requests a second; None: as the server's settings say."""
    burst: Burst | None = None
    """Requests at once; None: a second's, or without a rate of its own as the settings say."""

    def is_of(self, secret: str) -> bool:
        """Whether this is the key's secret; takes as long whether it is or not."""
        return hmac.compare_digest(digest_of(secret), self.digest)

    def has_expired(self, now: float) -> bool:
        """Whether the key is no longer taken. `now` is in Unix seconds."""
        return self.expires_at is not None and now >= self.expires_at


class KeyNotFound(HeadraceError):
    """No key has this id."""


def digest_of(secret: str) -> str:
    """Return what a secret is recognised by."""
    return hashlib.sha256(secret.encode()).hexdigest()


def make_key(
    scopes: tuple[Scope, ...],
    *,
    now: float,
    name: str = "",
    lives_s: float | None = None,
    rate_per_s: float | None = None,
    burst: int | None = None,
) -> tuple[ApiKey, str]:
    """Return a new key and its text, which cannot be had again.

    `now` is in Unix seconds, `lives_s` in seconds. Raises `HeadraceError` for what no key can have.
    """
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    raw = {
        "id": key_id,
        "name": name,
        "scopes": sorted(set(scopes), key=SCOPES.index),
        "digest": digest_of(secret),
        "created_at": now,
        "expires_at": None if lives_s is None else now + lives_s,
        "rate_per_s": rate_per_s,
        "burst": burst,
    }
    try:
        return msgspec.convert(raw, ApiKey), f"{PREFIX}{key_id}_{secret}"
    except msgspec.ValidationError as exc:
        reason, _, where = str(exc).partition(" - at `$.")
        field = where.strip("`")
        raise HeadraceError(f"The key's {field} {raw[field]!r} cannot be: {reason}.") from exc


def split_key(key: str) -> tuple[str, str] | None:
    """Return a key's id and secret, None for what is no key."""
    found = _KEY.fullmatch(key)
    return (found[1], found[2]) if found else None


class KeyStore:
    """The keys in Redis, and the secret with which servers sign the tokens of users."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = settings.key("api-keys")
        self._secret = settings.key("api-keys", "secret")
        self._asked = settings.key("api-keys", "asked")
        """There from the first key on."""

    async def add(self, key: ApiKey) -> None:
        """Store a key; servers know it a moment later, and ask for keys from then on."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(self._asked, 1)
            pipeline.hset(self._keys, key.id, msgspec.json.encode(key))
            await pipeline.execute()

    async def remove(self, key_id: str) -> None:
        """Forget a key. Raises `KeyNotFound`."""
        if not await self._redis.hdel(self._keys, key_id):
            raise KeyNotFound(f"There is no key {key_id!r}; `headrace keys list` shows them.")

    async def are_asked_for(self) -> bool:
        """Return whether there is a key, readable or not, or ever was one."""
        return bool(await self._redis.exists(self._keys, self._asked))

    async def all(self) -> list[ApiKey]:
        """Return the keys, the oldest first; those that have expired, too."""
        keys: list[ApiKey] = []
        for key_id, raw in (await self._redis.hgetall(self._keys)).items():
            try:
                keys.append(msgspec.json.decode(raw, type=ApiKey))
            except msgspec.DecodeError as exc:
                # It stays shut out; the others must go on.
                logger.warning("the key %s cannot be read: %s", text(key_id), exc)
        return sorted(keys, key=lambda key: key.created_at)

    async def secret(self) -> bytes:
        """Return the secret that all servers share, made at the first call."""
        while (found := await self._redis.get(self._secret)) is None:
            await self._redis.set(self._secret, secrets.token_bytes(_SECRET_BYTES), nx=True)
        return found if isinstance(found, bytes) else found.encode()
