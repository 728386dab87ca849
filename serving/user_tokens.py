"""Tokens of users, for browsers and apps: signed, of one user, and for an hour at the most.

`hu_<what it says>.<HMAC-SHA256 of that>`, both in URL-safe base64. What it says is no secret.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Literal

import msgspec
from msgspec import Struct

from serving.problems import Problem

MAX_LIFE_S = 3600
_PREFIX = "hu_"
UserScope = Literal["events", "recommend"]


class UserToken(Struct, frozen=True, array_like=True):
    """What a token says."""

    user_id: str
    scopes: tuple[UserScope, ...]
    expires_at: float
    """Unix seconds."""
    key_id: str
    """The key that it was made with; revoked, it takes its tokens along."""


def write_token(token: UserToken, secret: bytes) -> str:
    """Return the token as text."""
    said = urlsafe_b64encode(msgspec.json.encode(token)).rstrip(b"=")
    return f"{_PREFIX}{said.decode()}.{_signature(said, secret)}"


def is_token(text: str) -> bool:
    """Whether this means to be a token."""
    return text.startswith(_PREFIX)


def read_token(text: str, secret: bytes, *, now: float) -> UserToken | None:
    """Return what the token says, None for what is no token. `now` is in Unix seconds.

    Raises `Problem` 401 for one that was not signed with this secret, or has expired.
    """
    if not is_token(text):
        return None
    said, _, signature = text.removeprefix(_PREFIX).encode().partition(b".")
    # Nothing of it is read before the signature is known to be ours.
    if not hmac.compare_digest(signature, _signature(said, secret).encode()):
        raise Problem(401, "This token was not made here, or was changed.", bad_token=True)
    try:
        token = msgspec.json.decode(urlsafe_b64decode(said + b"=="), type=UserToken)
    except (msgspec.DecodeError, binascii.Error) as exc:
        raise Problem(401, "This token cannot be read.", bad_token=True) from exc
    if now >= token.expires_at:
        raise Problem(401, "This token has expired; ask for another one.", bad_token=True)
    return token


def _signature(said: bytes, secret: bytes) -> str:
    # `user-token` parts these signatures from whatever else the secret may come to sign.
    digest = hmac.new(secret, b"user-token." + said, hashlib.sha256).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
