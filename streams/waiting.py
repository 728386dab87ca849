"""Waiting, before a worker reads or writes any of it, while the state is exchanged for another."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time

from headrace.exchange import ExchangeStore
from headrace.heartbeats import INTERVAL_S, Heartbeat, HeartbeatStore
from headrace.settings import Settings
from headrace.store import connect
from streams.failure import AWAY
from streams.listener import Listener

logger = logging.getLogger(__name__)


def wait_for_exchange(settings: Settings) -> None:
    """Return when nobody exchanges the state, or Redis is away: the worker looks again. Blocks.

    Raises `HeadraceError` when the port of the worker's health cannot be had.
    """
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(_wait(settings))
    finally:
        loop.close()


async def _wait(settings: Settings) -> None:
    redis = connect(settings)
    try:
        state = await _state(ExchangeStore(redis, settings))
        if not state:
            return
        logger.warning(state)
        listener = Listener(settings.worker, lambda: state, lambda: b"")
        address = await listener.start()
        try:
            while state := await _state(ExchangeStore(redis, settings)):
                await HeartbeatStore(redis, settings).beat(_heartbeat(state, address))
                await asyncio.sleep(INTERVAL_S)
        finally:
            await listener.stop()
        logger.info("the state is exchanged; the worker begins")
    except AWAY as exc:
        logger.warning("whether the state is being exchanged cannot be read: %r", exc)
    finally:
        await redis.aclose()


async def _state(store: ExchangeStore) -> str:
    """Return in words what is waited for; nothing when there is nothing."""
    under_way = await store.read()
    if under_way is None:
        return ""
    return f"waiting: `{under_way.command}` exchanges the state ({under_way.phase})"


def _heartbeat(state: str, address: str) -> Heartbeat:
    return Heartbeat(
        part="worker",
        name=f"{socket.gethostname()}-{os.getpid()}",
        pid=os.getpid(),
        at=time.time(),
        state=state,
        address=address,
    )
