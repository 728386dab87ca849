"""The server's process."""

from __future__ import annotations

import ipaddress
import os
import resource
import signal
import socket
import sys

import uvicorn
from starlette.applications import Starlette

from headrace.errors import InvalidSetting
from headrace.logs import configure_logging
from headrace.settings import Settings, variable_of
from serving.app import create_app

_GRACE_S = 2
"""How long a server that is stopping finishes the requests it has begun."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises `InvalidSetting` when the server would be open to other machines without a key.
    """
    configure_logging(settings)
    check_exposure(settings)
    # uvicorn raises the signal that stopped it once more when it is done.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = _listen(settings)
    _allow_open_files()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    _Server(config, app).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that ends its streams when it stops, which would never end by themselves."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what has begun, and stop."""
        self._app.state.services.feed.close()
        await super().shutdown(sockets)


def _allow_open_files() -> None:
    """Let this process have as many connections as it may; the usual 1,024 are few for streams."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(settings: Settings) -> socket.socket:
    """Return a socket that listens. Raises `InvalidSetting` when the address cannot be had."""
    host, port = settings.serving.host, settings.serving.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as exc:
        raise InvalidSetting(
            f"The server cannot listen on {host}:{port}: {os.strerror(exc.errno or 0)}. "
            f"Choose another {variable_of(('serving', 'port'))}."
        ) from exc


def check_exposure(settings: Settings) -> None:
    """Raise `InvalidSetting` unless the address is loopback or a key is asked for."""
    if settings.api_key or _is_loopback(settings.serving.host):
        return
    raise InvalidSetting(
        f"{variable_of(('serving', 'host'))} is {settings.serving.host!r}, which other machines "
        f"can reach, and there is no {variable_of(('api_key',))}: set one."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
