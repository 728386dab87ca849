"""The server's process."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import ssl
import sys

import uvicorn
from starlette.applications import Starlette

from headrace.errors import InvalidSetting
from headrace.experiment import experiment_of
from headrace.known_types import make_types_known
from headrace.logs import configure_logging
from headrace.setting_variables import variable_of
from headrace.settings import Settings
from serving.app import create_app
from serving.exposure import check_exposure
from serving.version_loader import VersionLoader
from serving.worker_metrics import WorkerMetrics
from serving.workers import run_workers

_GARBAGE = 20_000
"""Objects made and not yet gone after which the garbage collector looks at the youngest ones. A
request makes hundreds and lets them go by itself; at Python's 700 each third one would pay."""
_SWITCH_S = 0.0002
"""For so long a thread that loads a version keeps the event loop waiting each time they both want
to run Python; Python's 5 ms would add up to tens for a request."""
_GRACE_S = 2
"""How long a server that is stopping finishes the requests it has begun."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises `InvalidSetting` when the server would be open to other machines without a key, and for
    settings that it cannot use.
    """
    configure_logging(settings)
    check_exposure(settings)
    _check_tls(settings)
    experiment_of(settings.experiment)
    # What is wrong with where versions lie, or with whose they are, is told before anything starts.
    VersionLoader(settings)
    listener = listen(settings)
    if settings.serving.workers > 1:
        run_workers(settings, listener, os.environ)
    else:
        serve_on(settings, listener)


def serve_on(
    settings: Settings, listener: socket.socket, workers: WorkerMetrics | None = None
) -> None:
    """Serve what comes to this socket, in this process, until SIGTERM or SIGINT.

    `workers`: with whom this process shares the server, if it does.
    """
    # uvicorn raises the signal that stopped it once more when it is done.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _allow_open_files()
    gc.set_threshold(_GARBAGE)
    sys.setswitchinterval(_SWITCH_S)
    app = create_app(settings, workers)
    make_types_known()
    _Server(uvicorn_config(settings, app), app).run(sockets=[listener])


def uvicorn_config(settings: Settings, app: Starlette) -> uvicorn.Config:
    """Return how uvicorn runs an application."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        # There is none; uvicorn would log the address of whoever asks for one, with its token.
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=settings.serving.tls_certificate or None,
        ssl_keyfile=settings.serving.tls_key or None,
        ssl_keyfile_password=settings.serving.tls_key_password or None,
    )


class _Server(uvicorn.Server):
    """A server that ends its streams when it stops, which would never end by themselves."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what has begun, and stop."""
        self._app.state.services.close_streams()
        await super().shutdown(sockets)


def _allow_open_files() -> None:
    """Let this process have as many connections as it may; the usual 1,024 are few for streams."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _check_tls(settings: Settings) -> None:
    """Raise `InvalidSetting` for a certificate that cannot be used, or a key without one."""
    serving = settings.serving
    if not serving.tls_certificate:
        if serving.tls_key:
            raise InvalidSetting(
                f"{variable_of(('serving', 'tls_key'))} is set and "
                f"{variable_of(('serving', 'tls_certificate'))} is not: TLS needs both."
            )
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            serving.tls_certificate, serving.tls_key or None, lambda: serving.tls_key_password
        )
    except (OSError, ValueError) as exc:
        raise InvalidSetting(
            f"{variable_of(('serving', 'tls_certificate'))} is {serving.tls_certificate!r} and "
            f"{variable_of(('serving', 'tls_key'))} {serving.tls_key!r}, which cannot be used: "
            f"{exc}."
        ) from exc


def listen(settings: Settings) -> socket.socket:
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
