"""Telling whose sessions have changed: workers publish it, servers with open streams listen.

Redis keeps nothing of it. Who was not listening has missed it, and looks at the sessions instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union

import msgspec

from headrace.settings import Settings

EVERYONE = msgspec.msgpack.encode(None)
"""The message that says that any user's session may have changed."""
_decoder: msgspec.msgpack.Decoder[list[str] | None] = msgspec.msgpack.Decoder(
    Union[list[str], None]
)


def channel(settings: Settings) -> str:
    """Return the name of the channel on Redis."""
    return settings.state_key("changed-users")


def encode(user_ids: Iterable[str]) -> bytes:
    """Return the message that says that these users' sessions may have changed."""
    return msgspec.msgpack.encode(list(dict.fromkeys(user_ids)))


def decode(message: bytes) -> list[str] | None:
    """Return the users of a message; None: any user."""
    return _decoder.decode(message)
