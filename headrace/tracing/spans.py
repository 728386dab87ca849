"""The spans of one process, and the way by which they leave it: OTLP over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from headrace import __version__

_END_WITHIN_S = 1.0
Attributes = dict[str, AttributeValue]
propagator = TraceContextTextMapPropagator()
"""Reads and writes `traceparent` and `tracestate` (W3C Trace Context)."""


class Tracing:
    """Makes spans and sends them in the background; who waits for them is never a request."""

    def __init__(
        self, service: str, exporter: Callable[[], SpanExporter] = OTLPSpanExporter
    ) -> None:
        """`service` is its name, unless OTEL_SERVICE_NAME has another one."""
        ours = Resource({"service.name": service, "service.version": __version__})
        resource = Resource.create().merge(ours).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._exporter = exporter()
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.tracer = self._provider.get_tracer("headrace", __version__)

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: Context | None = None,
        attributes: Attributes | None = None,
        links: list[Link] | None = None,
    ) -> Iterator[Span]:
        """A span for a block; `parent`: if not given, the span that it stands in.

        Of an error its type alone is told: redis-py's words hold the command, and keys users' ids.
        """
        with self.tracer.start_as_current_span(
            name,
            parent,
            kind=kind,
            attributes=attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(StatusCode.ERROR)
                raise

    async def close(self) -> None:
        """Send what is left; give it up when the receiver is away."""
        ending = asyncio.create_task(asyncio.to_thread(self._provider.shutdown))
        done, _ = await asyncio.wait([ending], timeout=_END_WITHIN_S)
        if not done:
            # It would try again for as long as a request may take.
            self._exporter.shutdown()
        await ending
