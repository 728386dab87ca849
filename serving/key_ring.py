"""The keys that a server knows, and the tokens of users that they stand behind.

They are read from Redis again and again, and go on counting while Redis is away.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Mapping

from redis.exceptions import RedisError

from headrace.keys import SCOPES, ApiKey, KeyStore, Scope, digest_of, split_key
from headrace.settings import Settings
from serving.callers import ANYONE, Caller
from serving.problems import Problem
from serving.rate_limits import RateLimits
from serving.user_tokens import UserToken, read_token, write_token

logger = logging.getLogger(__name__)

SETTINGS_KEY = "settings"
"""What the key that settings give is called in logs; the ids of others are hexadecimal."""
_NO_KEY = ApiKey(id="", scopes=(), digest=digest_of(""), created_at=0.0)
"""Stands in for a key that is not known, so that both take as long."""


class KeyRing:
    """Tells who calls by the key or the token that comes with a request."""

    def __init__(
        self,
        settings: Settings,
        store: KeyStore,
        clock: Callable[[], float],
        *,
        needs_key: bool,
    ) -> None:
        """`clock` tells Unix seconds. `needs_key`: whoever brings none is refused.

        Otherwise that holds from the first key on, and for good: who revokes the last one, or loses
        Redis's data, has not opened the server to everybody.
        """
        self._serving = settings.serving
        self._store = store
        self._clock = clock
        self._needs_key = needs_key or bool(settings.api_key)
        self._own = _key_of_settings(settings.api_key)
        self._keys: Mapping[str, ApiKey] | None = None
        self._limits = RateLimits()
        self._secret = secrets.token_bytes(32)
        self._trouble = False

    @property
    def secret(self) -> bytes:
        """The secret that servers share; this server's own until Redis has told it."""
        return self._secret

    async def follow(self) -> None:
        """Read the keys anew, again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._serving.follow_s)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the keys anew; while Redis is away those that are known go on."""
        try:
            secret, keys = await self._store.secret(), await self._store.all()
            self._needs_key = self._needs_key or await self._store.are_asked_for()
        except (RedisError, OSError) as exc:
            if not self._trouble:
                logger.warning("the API keys cannot be read: %r; those known go on", exc)
            self._trouble = True
            return
        self._secret, self._keys, self._trouble = secret, {key.id: key for key in keys}, False

    def identify(self, credential: str | None) -> Caller:
        """Return who sends this key or token. Raises `Problem` 401, or 503 when it cannot tell."""
        if self._own is not None and credential and self._own.is_of(credential):
            return self._caller(self._own)
        if self._keys is None:
            raise Problem(503, "The API keys cannot be read yet; try again.", retry_after_s=1)
        if not self._needs_key:
            return ANYONE
        if credential is None:
            raise Problem(401, "Send an API key: `Authorization: Bearer <key>`.")
        token = read_token(credential, self._secret, now=self._clock())
        return self._by_key(credential) if token is None else self._by_token(token)

    def key(self, caller: Caller) -> ApiKey | None:
        """Return the key that the caller sent; None for the settings' own, and for none."""
        return (self._keys or {}).get(caller.key_id)

    def issue(self, token: UserToken) -> str:
        """Return the token as text."""
        return write_token(token, self._secret)

    def wait_s(self, caller: Caller) -> float:
        """Count a request; return the seconds that it comes too early, 0 when it does not."""
        if not caller.rate_per_s:
            return 0.0
        who = (caller.key_id, caller.user_id)
        return self._limits.wait_s(who, caller.rate_per_s, caller.burst)

    def _by_key(self, credential: str) -> Caller:
        key_id, secret = split_key(credential) or ("", credential)
        key = (self._keys or {}).get(key_id, _NO_KEY)
        if not key.is_of(secret) or key is _NO_KEY:
            raise Problem(401, "This API key is not known, or was revoked.", bad_token=True)
        self._check_lives(key)
        return self._caller(key)

    def _by_token(self, token: UserToken) -> Caller:
        """Return the user's caller, who has no right that the key behind it has lost."""
        key = self._by_id(token.key_id)
        if key is None:
            raise Problem(401, "The key behind this token was revoked.", bad_token=True)
        self._check_lives(key)
        return Caller(
            key.id,
            [scope for scope in token.scopes if scope in key.scopes],
            self._serving.user_rate_per_s,
            self._serving.user_burst,
            token.user_id,
            token.expires_at,
        )

    def refusal(self, caller: Caller, scope: Scope) -> str | None:
        """Return in words why a caller who was let in once would not be now, None if it would.

        For what goes on longer than a request: its key may have been revoked or have expired, or
        have lost the scope.
        """
        if caller is ANYONE:
            return "This server asks for an API key by now." if self._needs_key else None
        if caller.expires_at is not None and self._clock() >= caller.expires_at:
            return "The token has expired; ask for another one."
        key = self._by_id(caller.key_id)
        if key is None:
            return "The API key was revoked."
        if key.has_expired(self._clock()):
            return "The API key has expired."
        return None if scope in key.scopes else f"The API key has no longer the scope {scope}."

    def _by_id(self, key_id: str) -> ApiKey | None:
        """Return the key of this id, which may be the settings' own."""
        if self._own is not None and key_id == self._own.id:
            return self._own
        return (self._keys or {}).get(key_id)

    def _check_lives(self, key: ApiKey) -> None:
        if key.has_expired(self._clock()):
            raise Problem(401, f"The API key {key.id} has expired.", bad_token=True)

    def _caller(self, key: ApiKey) -> Caller:
        if key.rate_per_s is None:
            rate, burst = self._serving.rate_per_s, self._serving.burst
        else:
            rate, burst = key.rate_per_s, math.ceil(key.rate_per_s)
        return Caller(key.id, key.scopes, rate, key.burst or burst)


def _key_of_settings(key: str) -> ApiKey | None:
    if not key:
        return None
    return ApiKey(id=SETTINGS_KEY, scopes=SCOPES, digest=digest_of(key), created_at=0.0)
