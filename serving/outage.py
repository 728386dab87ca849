"""Telling the log of an outage twice: when it begins, and when it is over."""

from __future__ import annotations

import logging


class Outage:
    """What cannot be done at times, and is tried again and again meanwhile."""

    def __init__(self, logger: logging.Logger, what: str) -> None:
        """`what`: in words, such as "trending items cannot be read"."""
        self._logger = logger
        self._what = what
        self.lasts = False
        """Whether the last try failed."""

    def met(self, error: Exception) -> None:
        """Take note that it failed."""
        if not self.lasts:
            self._logger.warning("%s: %r", self._what, error)
        self.lasts = True

    def over(self) -> None:
        """Take note that it was done."""
        if self.lasts:
            self._logger.info("no longer: %s", self._what)
        self.lasts = False
