"""A proxy before Redis that swallows answers."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

_CHUNK = 1 << 20


class CuttingProxy(AbstractAsyncContextManager["CuttingProxy"]):
    """Cuts a connection after Redis has done what was asked, before the answer gets through."""

    def __init__(self, redis_url: str, marker: bytes, *, every: int) -> None:
        """Count the requests in which the marker stands, and cut at every so many."""
        self.cuts = 0
        self._behind = urlsplit(redis_url)
        self._marker = marker
        self._every = every
        self._requests = 0

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        """The URL of the Redis behind, as it is reached through here."""
        port = self._server.sockets[0].getsockname()[1]
        return self._behind._replace(netloc=f"127.0.0.1:{port}").geturl()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(
            self._behind.hostname, self._behind.port
        )
        connection = _Connection()
        try:
            await asyncio.gather(
                self._requests_of(connection, reader, behind_writer),
                self._answers_of(connection, behind_reader, writer),
            )
        except OSError:
            return
        finally:
            writer.close()
            behind_writer.close()

    async def _requests_of(
        self, connection: _Connection, reader: asyncio.StreamReader, behind: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self._marker in data:
                self._requests += 1
                connection.doomed = self._requests % self._every == 0
            behind.write(data)
            await behind.drain()
        behind.close()

    async def _answers_of(
        self, connection: _Connection, behind: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await behind.read(_CHUNK):
            if connection.doomed:
                self.cuts += 1
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        writer.close()


class _Connection:
    doomed = False
