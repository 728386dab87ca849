"""The worker's own health and metrics over HTTP; Faust's web server stays off."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from headrace.errors import HeadraceError
from headrace.settings import WorkerSettings

Ready = Callable[[], str]
"""Returns how the worker fares; `running` is well."""


class Listener:
    """`/livez`, `/readyz` and `/metrics` on the worker's own address."""

    def __init__(
        self, settings: WorkerSettings, state: Ready, metrics: Callable[[], bytes]
    ) -> None:
        self._settings = settings
        self._state = state
        self._metrics = metrics
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._expose),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> str:
        """Listen; return the address. Raises `HeadraceError` when the port cannot be had."""
        host, port = self._settings.host, self._settings.port
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, shutdown_timeout=0.1).start()
        except OSError as exc:
            raise HeadraceError(
                f"{host}:{port}, for the worker's metrics, cannot be listened on: {exc.strerror}. "
                "Set HEADRACE_WORKER_PORT to another port, or to 0 for any free one."
            ) from exc
        bound = self._runner.addresses[0][1]
        return f"http://{f'[{host}]' if ':' in host else host}:{bound}"

    async def stop(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        state = self._state()
        ready = state == "running"
        return web.json_response({"ready": ready, "state": state}, status=200 if ready else 503)

    async def _expose(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics(), headers={"content-type": "text/plain; version=0.0.4"}
        )
