"""Spans of a server: one for each request, and within it one for each step of its answer."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import SpanKind, StatusCode
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.tracing.spans import Tracing, propagator
from models.retrieval.retriever import Retriever
from serving.recommender import Prepared, RankedList, Recommender
from serving.schemas.recommendations import RecommendationRequest

_UNTRACED = frozenset({"/livez", "/readyz", "/metrics"})
"""What machines ask for every few seconds."""
_SERVER_ERROR = 500


class Traced:
    """Makes a span of each request, in the trace that its `traceparent` names, if it has one.

    It is named by the route, and holds no address: that has users' ids in it.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on within a span."""
        if scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return
        parent = propagator.extract(Headers(scope=scope))
        attributes = {"http.request.method": scope["method"], "url.scheme": scope["scheme"]}
        with self._tracing.span(
            scope["method"], kind=SpanKind.SERVER, parent=parent, attributes=dict(attributes)
        ) as span:

            async def note_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= _SERVER_ERROR:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, note_status)
            finally:
                route = scope.get("route")
                if route is not None:
                    span.update_name(f"{scope['method']} {route.path}")
                    span.set_attribute("http.route", route.path)


class TracedRecommender(Recommender):
    """A recommender whose steps are spans."""

    def __init__(self, tracing: Tracing, *parts: Any) -> None:
        """`parts`: what a `Recommender` is made of."""
        super().__init__(*parts)
        self._tracing = tracing

    async def _read(self, request: RecommendationRequest) -> Prepared:
        with self._tracing.span("read session") as span:
            asked = await super()._read(request)
            span.set_attribute("headrace.session.interactions", len(asked.session.item_ids))
        return asked

    async def _ranked(self, asked: Prepared, retriever: Retriever | None) -> RankedList | None:
        with self._tracing.span("rank") as span:
            ranked = await super()._ranked(asked, retriever)
            span.set_attribute("headrace.ranked", ranked is not None and ranked.by is not None)
        return ranked
