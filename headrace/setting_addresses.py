"""Whether the addresses of Kafka and Redis are such as their clients take."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from headrace.errors import InvalidSetting
from headrace.secrets import without_password
from headrace.settings import Settings

_Options = dict[str, Callable[[str], bool]]

_KAFKA_CURE = "Write host:port, as in 127.0.0.1:9092; several with commas between them."
_REDIS_CURE = (
    "Write redis://user:password@host:6379/0, with what is special in the password as %23, or "
    "unix:///path/to/socket."
)


def check_addresses(settings: Settings) -> None:
    """Raise `InvalidSetting` for an address that no client could use."""
    if not all(server.strip() for server in settings.kafka.split(",")):
        raise InvalidSetting(
            f"HEADRACE_KAFKA has value {settings.kafka!r}. It names no server. {_KAFKA_CURE}"
        )
    if wrong := _wrong_in_redis(settings.redis):
        raise InvalidSetting(
            f"HEADRACE_REDIS has value {without_password(settings.redis)!r}. {wrong}. {_REDIS_CURE}"
        )


def _wrong_in_redis(url: str) -> str:
    """Return in words what is wrong with the URL, or ""."""
    try:
        split = urlsplit(url)
    except ValueError:
        return "Its host is none"
    try:
        # Reading it checks it.
        _ = split.port
    except ValueError:
        return "Its port is no number from 0 to 65535"
    if split.fragment:
        return "It has a #"
    if split.scheme != "unix" and not re.fullmatch(r"/?[0-9]{0,9}", unquote(split.path)):
        return "Its path is not the number of a database"
    return _wrong_in_options(split)


def _wrong_in_options(split: SplitResult) -> str:
    options = _OPTIONS | _MORE_OPTIONS[split.scheme]
    for name, value in parse_qsl(split.query, keep_blank_values=True):
        if name not in options:
            return f"{name!r} is not an option of it; there are {', '.join(options)}"
        if not options[name](value):
            return f"Its option {name} has no value that it can have"
    return ""


def _is_text(value: str) -> bool:
    return bool(value)


def _is_count(value: str) -> bool:
    return bool(re.fullmatch("[0-9]{1,9}", value))


def _is_number(value: str) -> bool:
    return _is_count(value) and int(value) > 0


def _is_seconds(value: str) -> bool:
    try:
        return 0 < float(value) < math.inf
    except ValueError:
        return False


def _is_yes_or_no(value: str) -> bool:
    return value.lower() in ("true", "false", "yes", "no", "1", "0")


_OPTIONS: _Options = {
    "db": _is_count,
    "username": _is_text,
    "password": _is_text,
    "client_name": _is_text,
    "protocol": ("2", "3").__contains__,
    "socket_timeout": _is_seconds,
    "socket_connect_timeout": _is_seconds,
    "health_check_interval": _is_count,
    "max_connections": _is_number,
}
"""By name, whether a value is one of it: of what redis-py takes, what changes no answer."""
_TCP_OPTIONS: _Options = {"socket_keepalive": _is_yes_or_no}
_TLS_OPTIONS: _Options = {
    **_TCP_OPTIONS,
    "ssl_ca_certs": _is_text,
    "ssl_ca_path": _is_text,
    "ssl_ca_data": _is_text,
    "ssl_certfile": _is_text,
    "ssl_keyfile": _is_text,
    "ssl_password": _is_text,
    "ssl_cert_reqs": ("none", "optional", "required").__contains__,
    "ssl_check_hostname": _is_yes_or_no,
    "ssl_min_version": _is_count,
    "ssl_ciphers": _is_text,
}
_MORE_OPTIONS: dict[str, _Options] = {"redis": _TCP_OPTIONS, "rediss": _TLS_OPTIONS, "unix": {}}
"""By scheme, what else it takes."""
