"""Hearing whose sessions change: one subscription for all that a server's streams wait for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from headrace import changed_users
from headrace.settings import Settings

logger = logging.getLogger(__name__)

_QUIET_S = 5.0
"""After so long without a message Redis is asked whether it is still there."""


class UserChanges:
    """Sets the events of those who watch a user whose session may have changed."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._channel = changed_users.channel(settings)
        self._again_s = settings.serving.follow_s
        self._watched: dict[str, set[asyncio.Event]] = {}
        self._any = asyncio.Event()

    @contextmanager
    def watch(self, user_id: str) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the user's session may have changed."""
        changed = asyncio.Event()
        self._watched.setdefault(user_id, set()).add(changed)
        self._any.set()
        try:
            yield changed
        finally:
            watching = self._watched[user_id]
            watching.discard(changed)
            if not watching:
                del self._watched[user_id]
            if not self._watched:
                self._any.clear()

    def wake_all(self) -> None:
        """Set the events of all who watch."""
        self._wake(list(self._watched))

    async def follow(self) -> None:
        """Listen while there is anybody who watches, until cancelled."""
        while True:
            await self._any.wait()
            try:
                await self._listen()
            except (RedisError, OSError) as exc:
                logger.warning("it cannot be heard whose sessions change: %r", exc)
                await asyncio.sleep(self._again_s)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as subscription:
            await subscription.subscribe(self._channel)
            answered = True
            while self._watched:
                message = await subscription.get_message(timeout=_QUIET_S)
                if message is not None and message["type"] == "message":
                    users = changed_users.decode(message["data"])
                    if users is None:
                        self.wake_all()
                    else:
                        self._wake(users)
                elif message is not None and message["type"] == "subscribe":
                    # What was said until now nobody here has heard.
                    self.wake_all()
                elif message is None and not answered:
                    raise RedisConnectionError("Redis says nothing")
                elif message is None:
                    await subscription.ping()
                answered = message is not None

    def _wake(self, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            for changed in self._watched.get(user_id, ()):
                changed.set()
