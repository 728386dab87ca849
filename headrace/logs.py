"""How the processes log: one line a record, to standard error."""

from __future__ import annotations

import logging

from headrace.settings import Settings

_INDISCREET = ("aiokafka", "kafka", "faust")
"""At their DEBUG they write the records of users, and the passwords of brokers."""
_TALKATIVE = ("aiokafka", "faust", "mode", "streams.fetching")


def configure_logging(settings: Settings) -> None:
    """Set the level of our own records, and keep libraries to their warnings."""
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for name in _INDISCREET:
        logging.getLogger(name).setLevel(logging.INFO)
    if settings.log_level != "DEBUG":
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        # It reports each refused connection four times; who called it says it once.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
