"""Spans of a worker: one for each batch, in the trace of its events."""

from __future__ import annotations

import time
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind

from headrace.dead_letters import Record
from headrace.tracing.kafka import contexts
from headrace.tracing.spans import Attributes, Tracing
from streams.reading import Agent

_LINKS = 128
"""As many as OpenTelemetry's SDK keeps of a span, unless it is told otherwise."""


def traced(agent: Agent, name: str, group: str, tracing: Tracing) -> Agent:
    """Return the agent, with a span for each batch that it does.

    Where all events of the batch were sent in one span, that is the parent. Where they were sent in
    several, the batch is a trace of its own that links to them; and in each of their traces one
    more span, of the same time, leads to it. Only spans that are sampled count.
    """
    told: Attributes = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.consumer.group.name": group,
    }

    async def tracing_agent(records: Sequence[Record]) -> None:
        sent = contexts(record.headers for record in records)[:_LINKS]
        parent = sent[0][1] if len(sent) == 1 else Context()
        began = time.time_ns()
        with tracing.span(
            f"process {name}",
            kind=SpanKind.CONSUMER,
            parent=parent,
            attributes={**told, "messaging.batch.message_count": len(records)},
            links=[Link(span) for span, _ in sent] if len(sent) > 1 else [],
        ) as batch:
            await agent(records)
        if len(sent) > 1:
            _tell_each(sent, batch.get_span_context(), began)

    def _tell_each(
        sent: Sequence[tuple[SpanContext, Context]], batch: SpanContext, began: int
    ) -> None:
        ended = time.time_ns()
        for _, context in sent:
            tracing.tracer.start_span(
                f"process {name}",
                context,
                SpanKind.CONSUMER,
                attributes=told,
                links=[Link(batch)],
                start_time=began,
            ).end(ended)

    return tracing_agent
