"""Stand-ins for Headrace's own processes, so that the stack is tried apart from what runs in it.

Run as `stand_ins.py worker|trainer|server|idler|failing|deaf`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

from headrace.heartbeats import Heartbeat, HeartbeatStore
from headrace.settings import Settings
from headrace.settings_source import load_settings
from headrace.store import connect


async def beat(settings: Settings, part: str) -> None:
    """Beat as the worker and the trainer do, until SIGTERM."""
    redis = connect(settings)
    store = HeartbeatStore(redis, settings)
    while True:
        with contextlib.suppress(OSError):
            await store.beat(
                Heartbeat(
                    part=part,
                    name=f"stand-in-{os.getpid()}",
                    pid=os.getpid(),
                    at=time.time(),
                    state="running",
                    figures={"applied": 3.0},
                )
            )
        await asyncio.sleep(0.5)


async def serve(settings: Settings) -> None:
    """Answer 200 to every request."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nOK")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", settings.serving.port)
    await server.serve_forever()


def idle() -> None:
    """Start a child that would stay for ever, and stay."""
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])


def main(role: str) -> None:
    if role == "failing":
        print("the reason that the part gives", flush=True)
        sys.exit(3)
    if role == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if role in ("idler", "deaf"):
        idle()
    settings = load_settings(os.environ)
    asyncio.run(serve(settings) if role == "server" else beat(settings, role))


if __name__ == "__main__":
    main(sys.argv[1])
