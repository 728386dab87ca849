"""The worker's process: wait for the state, learn the topics and who was erased, run the app."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping
from functools import partial

import faust
import uvloop

from headrace.erasure_log import read_erasure_log
from headrace.known_types import make_types_known
from headrace.logs import configure_logging
from headrace.settings import Settings
from headrace.topics import ERASURES, TopicId, Topics, ensure_topics
from streams.allocator import give_back_buffers
from streams.app import create_app
from streams.waiting import wait_for_exchange


def run(settings: Settings, model_id: str | None = None) -> None:
    """Run a worker until SIGTERM or SIGINT; of the settings' own model, or of another.

    Raises `HeadraceError` when Kafka is not there, `UnknownModel`.
    """
    of_model = settings if model_id is None else settings.of_model(model_id)
    # The catalogue and what was served are one for all models: one group of workers brings them.
    reads_common = of_model.event_topics == settings.event_topics
    run_app(of_model, partial(_create, reads_common=reads_common))


def _create(settings: Settings, topics: Mapping[str, TopicId], *, reads_common: bool) -> faust.App:
    wait_for_exchange(settings)
    erasures = topics[Topics(settings).name(ERASURES)]
    log = read_erasure_log(settings, erasures.partitions)
    return create_app(settings, topics, log, reads_common=reads_common)


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
    make_types_known()
    # What is there by now stays: looking at it again would take a tenth of a second each time.
    gc.collect()
    gc.freeze()
    worker.execute_from_commandline()
