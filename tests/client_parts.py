"""What the tests of the clients share: the key, waiting for a server, and a proxy with faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from threading import Thread

import httpx
from aiohttp import ClientSession, web
from parts import eventually

KEY = "a key of the clients' own"


async def until_ready(url: str) -> None:
    """Wait until the server is ready."""
    async with httpx.AsyncClient(base_url=url) as client:

        async def ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(ready, "the server is ready")


class FaultyProxy:
    """Passes requests on to a server, each with the next fault of a list, until they are used up.

    A status, such as `503`: it is refused, with `Retry-After: 0`. `lost`: it is done, and the
    answer gets lost. `slow`: it is done, and the answer does not come for as long as a client may
    wait.
    """

    def __init__(self, target: str, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        self.requests: list[str] = []
        """The methods and paths that came."""
        self.url = ""
        self._target = target

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Run it; give its address."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        async with ClientSession() as self._session:
            await web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self.url
            finally:
                await runner.cleanup()

    @contextmanager
    def in_thread(self) -> Iterator[str]:
        """Run it in a thread of its own, for clients that block."""
        loop = asyncio.new_event_loop()
        thread = Thread(target=loop.run_forever)
        thread.start()
        running = self.running()
        try:
            yield asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result()
        finally:
            asyncio.run_coroutine_threadsafe(running.__aexit__(None, None, None), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        fault = self.faults.pop(0) if self.faults else ""
        if fault.isdigit():
            return web.Response(status=int(fault), headers={"Retry-After": "0"})
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() in ("authorization", "content-type")
        }
        async with self._session.request(
            request.method,
            f"{self._target}{request.path_qs}",
            data=await request.read(),
            headers=headers,
        ) as answer:
            body = await answer.read()
        if fault == "lost":
            assert request.transport is not None
            request.transport.abort()
        if fault == "slow":
            await asyncio.sleep(30)
        return web.Response(
            status=answer.status, body=body, headers={"content-type": answer.content_type}
        )
