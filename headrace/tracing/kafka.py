"""Spans of what is sent to Kafka, and their context in the records' headers.

Names and attributes are those of OpenTelemetry's semantic conventions for messaging.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from aiokafka.errors import KafkaError
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, get_current_span

from headrace.producer import Outgoing, Position, Producer
from headrace.settings import Settings
from headrace.tracing.spans import Tracing, propagator

TRACEPARENT = "traceparent"
_TRACESTATE = "tracestate"


class TracedProducer(Producer):
    """A producer whose records carry the context of the span in which they are sent."""

    def __init__(self, settings: Settings, tracing: Tracing, *, timeout_s: float) -> None:
        super().__init__(settings, timeout_s=timeout_s)
        self._tracing = tracing

    async def send_each(self, records: Sequence[Outgoing]) -> list[Position | KafkaError]:
        """Send records, each with the span's context in its headers."""
        names = sorted({record.topic for record in records})
        with self._tracing.span(
            f"send {names[0] if len(names) == 1 else 'records'}",
            kind=SpanKind.PRODUCER,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.type": "send",
                "messaging.operation.name": "send",
                "messaging.destination.name": ",".join(names),
                "messaging.batch.message_count": len(records),
            },
        ) as span:
            headers = _headers()
            outcomes = await super().send_each(
                [
                    msgspec.structs.replace(record, headers=(*record.headers, *headers))
                    for record in records
                ]
            )
            lost = sum(not isinstance(outcome, Position) for outcome in outcomes)
            if lost:
                span.set_status(StatusCode.ERROR, f"{lost} of {len(records)} not acknowledged")
        return outcomes


def _headers() -> list[tuple[str, bytes]]:
    carrier: dict[str, str] = {}
    propagator.inject(carrier)
    return [(name, value.encode()) for name, value in carrier.items()]


def contexts(headers: Iterable[Sequence[tuple[str, bytes]]]) -> list[tuple[SpanContext, Context]]:
    """Return the contexts in which records with these headers were sent, each once.

    Those that are not sampled are left out, and so is what is no context.
    """
    found: dict[bytes, str] = {}
    for each in headers:
        for name, value in each:
            if name == TRACEPARENT and value not in found:
                states = [state for other, state in each if other == _TRACESTATE]
                found[value] = b",".join(states).decode(errors="replace")
    read = [
        propagator.extract({TRACEPARENT: raw.decode(errors="replace"), _TRACESTATE: state})
        for raw, state in found.items()
    ]
    sent = [(get_current_span(context).get_span_context(), context) for context in read]
    return [(span, context) for span, context in sent if span.is_valid and span.trace_flags.sampled]
