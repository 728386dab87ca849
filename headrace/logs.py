"""How the processes log: one line a record, to standard error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from headrace.settings import Settings

_AGAIN_S = 10.0
"""A line of a library's that says what it said less than so long ago is left out."""
_REMEMBERED = 1_000
"""Lines that are known again: some libraries put values into their templates."""
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
        for handler in logging.getLogger().handlers:
            handler.addFilter(Repeated(_TALKATIVE, time.monotonic))
        # It reports each refused connection four times; who called it says it once.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)


class Repeated(logging.Filter):
    """Leaves out what some loggers say over and over, as they do while a broker is away."""

    def __init__(self, loggers: Sequence[str], clock: Callable[[], float]) -> None:
        """`loggers`: first parts of their names; `clock` gives seconds that never go back."""
        super().__init__()
        self._loggers = frozenset(loggers)
        self._clock = clock
        self._said_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        if record.name.partition(".")[0] not in self._loggers:
            return True
        said, now = (record.name, str(record.msg)), self._clock()
        if now - self._said_at.get(said, -_AGAIN_S) < _AGAIN_S:
            return False
        if len(self._said_at) >= _REMEMBERED:
            self._said_at.clear()
        self._said_at[said] = now
        return True
