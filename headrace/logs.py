"""How the processes log: one line a record, to standard error."""

from __future__ import annotations

import logging

from headrace.settings import Settings

_TALKATIVE = ("aiokafka", "faust", "mode", "streams.fetching")


def configure_logging(settings: Settings) -> None:
    """Set the level of our own records, and keep libraries to their warnings."""
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if settings.log_level != "DEBUG":
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        # It reports each refused connection four times; who called it says it once.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
