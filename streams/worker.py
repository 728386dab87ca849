"""The worker's process: wait for the state, learn the topics and who was erased, run the app."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping

import faust
import uvloop

from headrace.erasure_log import read_erasure_log
from headrace.logs import configure_logging
from headrace.settings import Settings
from headrace.topics import ERASURES, TopicId, Topics, ensure_topics
from streams.allocator import give_back_buffers
from streams.app import create_app
from streams.waiting import wait_for_exchange


def run(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT. Raises `HeadraceError` when Kafka is not there."""
    run_app(settings, _create)


def _create(settings: Settings, topics: Mapping[str, TopicId]) -> faust.App:
    wait_for_exchange(settings)
    erasures = topics[Topics(settings).name(ERASURES)]
    return create_app(settings, topics, read_erasure_log(settings, erasures.partitions))


def run_app(
    settings: Settings, create: Callable[[Settings, Mapping[str, TopicId]], faust.App]
) -> None:
    """Run the app that `create` makes of the settings and the topics as they are now."""
    give_back_buffers()
    configure_logging(settings)
    # Before Faust makes its loops, the one of its consumer's thread too.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    app = create(settings, ensure_topics(settings))
    worker = faust.Worker(
        app,
        loglevel=settings.log_level,
        redirect_stdouts=False,
        override_logging=False,
        quiet=True,
    )
    # It writes to the terminal, or to the log, whether there is a cursor to show or not.
    worker.spinner = None
    # What is there by now stays: looking at it again would take a tenth of a second each time.
    gc.collect()
    gc.freeze()
    worker.execute_from_commandline()
