"""Whether this host's own part is well: what a container's health check asks."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl

from headrace.errors import HeadraceError
from headrace.secrets import without_password
from headrace.settings import Settings

_TIMEOUT_S = 3.0


def check_server(settings: Settings) -> None:
    """Ask the server on this host whether it is ready. Raises `HeadraceError` when it is not."""
    wildcard = settings.serving.host in ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
    host = "127.0.0.1" if wildcard else settings.serving.host
    connection = _connection(settings, host)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as exc:
        raise HeadraceError(
            f"The server at {host}:{settings.serving.port} does not answer: {exc}."
        ) from exc
    finally:
        connection.close()
    if status != http.client.OK:
        raise HeadraceError(f"The server at {host}:{settings.serving.port} answers {status}.")


def _connection(settings: Settings, host: str) -> http.client.HTTPConnection:
    port = settings.serving.port
    if not settings.serving.tls_certificate:
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    # The certificate is for the name that clients use; on this host it is enough that it answers.
    context = ssl._create_unverified_context()  # noqa: S323
    return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)


def check_heartbeat(settings: Settings, part: str) -> None:
    """Look for a heartbeat of this part on this host. Raises `HeadraceError` without one."""
    from redis.exceptions import RedisError

    try:
        names = asyncio.run(_names(settings, part))
    except RedisError as exc:
        raise HeadraceError(
            f"Redis at {without_password(settings.redis)} cannot be asked: "
            f"{str(exc).rstrip('.')}. Is it running, and is HEADRACE_REDIS right?"
        ) from exc
    host = socket.gethostname()
    if not any(name.startswith(f"{host}-") for name in names):
        raise HeadraceError(f"The {part} on {host} gives no sign of life in Redis.")


async def _names(settings: Settings, part: str) -> list[str]:
    from headrace.heartbeats import HeartbeatStore
    from headrace.store import connect

    client = connect(settings)
    try:
        return [heartbeat.name for heartbeat in await HeartbeatStore(client, settings).read(part)]
    finally:
        await client.aclose()
