"""Whether other machines can reach a server, and whether it then asks for keys."""

from __future__ import annotations

import asyncio
import ipaddress

from redis.exceptions import RedisError

from headrace.errors import InvalidSetting
from headrace.keys import KeyStore, split_key
from headrace.secrets import without_password
from headrace.setting_variables import variable_of
from headrace.settings import Settings
from headrace.store import connect


def check_exposure(settings: Settings) -> None:
    """Raise `InvalidSetting` unless the address is loopback or there is a key to ask for.

    The key of the settings opens everything, so a client's key there is refused, too.
    """
    if split_key(settings.api_key) is not None:
        raise InvalidSetting(
            f"{variable_of(('api_key',))} is a key that `headrace keys create` made: it is for "
            "clients, and would open everything here. Leave it out on the server."
        )
    if settings.api_key or is_loopback(settings) or _has_keys(settings):
        return
    raise InvalidSetting(
        f"{variable_of(('serving', 'host'))} is {settings.serving.host!r}, which other machines "
        "can reach, and there is no key: make one with `headrace keys create`, or set "
        f"{variable_of(('api_key',))}."
    )


def is_loopback(settings: Settings) -> bool:
    """Whether this machine alone can reach the server."""
    host = settings.serving.host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_keys(settings: Settings) -> bool:
    async def look() -> bool:
        redis = connect(settings)
        try:
            return bool(await KeyStore(redis, settings).all())
        finally:
            await redis.aclose()

    try:
        return asyncio.run(look())
    except (RedisError, OSError) as exc:
        raise InvalidSetting(
            f"{variable_of(('serving', 'host'))} is {settings.serving.host!r}, which other "
            f"machines can reach, {variable_of(('api_key',))} is not set, and Redis at "
            f"{without_password(settings.redis)} cannot be asked for keys: {exc}."
        ) from exc
