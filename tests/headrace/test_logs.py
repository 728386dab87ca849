"""What is left out of the processes' logs."""

from __future__ import annotations

import logging

from headrace.logs import Repeated


def test_what_a_library_repeats_is_written_once_in_a_while() -> None:
    now = 0.0
    repeated = Repeated(("aiokafka",), lambda: now)

    def written(name: str, message: str, *arguments: object) -> bool:
        record = logging.LogRecord(name, logging.ERROR, "", 0, message, arguments, None)
        return repeated.filter(record)

    assert written("aiokafka.cluster", "no node %s", 1)
    assert not written("aiokafka.cluster", "no node %s", 2)
    assert written("aiokafka.cluster", "another")
    assert written("aiokafka.client", "no node %s", 1)
    assert [written("streams.failure", "events cannot be applied") for _ in range(2)] == [True] * 2
    now = 9.9
    assert not written("aiokafka.cluster", "no node %s", 3)
    now = 10.0
    assert written("aiokafka.cluster", "no node %s", 4)
