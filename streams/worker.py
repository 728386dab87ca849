"""The worker's process: wait for the state, make sure of the topics, run the app until stopped."""

from __future__ import annotations

import asyncio

import faust
import uvloop

from headrace.logs import configure_logging
from headrace.settings import Settings
from headrace.topics import ensure_topics
from streams.app import create_app
from streams.waiting import wait_for_exchange


def run(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT. Raises `HeadraceError` when Kafka is not there."""
    configure_logging(settings)
    # Before Faust makes its loops, the one of its consumer's thread too.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    wait_for_exchange(settings)
    app = create_app(settings, ensure_topics(settings))
    worker = faust.Worker(
        app,
        loglevel=settings.log_level,
        redirect_stdouts=False,
        override_logging=False,
        quiet=True,
    )
    worker.execute_from_commandline()
