"""Spans of the round trips to Redis that are made within another span.

Names and attributes are those of OpenTelemetry's semantic conventions for databases. Neither keys
nor values are told: they hold users' ids.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import SpanKind, get_current_span
from redis.asyncio.client import Pipeline

from headrace.store import DiscreetPipeline, DiscreetRedis
from headrace.tracing.spans import Attributes, Tracing

_SYSTEM: Attributes = {"db.system.name": "redis"}


def traced_redis(tracing: Tracing) -> type[DiscreetRedis]:
    """Return Redis's client, with a span for each round trip within another span.

    What looks at Redis now and then, whoever asks, is not told: it would be a trace each time.
    """

    class TracedPipeline(DiscreetPipeline):
        async def execute(self, raise_on_error: bool = True) -> list[Any]:
            if not get_current_span().is_recording():
                return await super().execute(raise_on_error)
            name = "MULTI" if self.is_transaction else "PIPELINE"
            commands = [str(command[0][0]) for command in self.command_stack]
            attributes = {
                **_SYSTEM,
                "db.operation.name": name,
                "db.operation.batch.size": len(commands),
                "headrace.commands": sorted(set(commands)),
            }
            with tracing.span(name, kind=SpanKind.CLIENT, attributes=attributes):
                return await super().execute(raise_on_error)

    class TracedRedis(DiscreetRedis):
        def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
            return TracedPipeline(
                self.connection_pool, self.response_callbacks, transaction, shard_hint
            )

        async def execute_command(self, *args: Any, **options: Any) -> Any:
            if not get_current_span().is_recording():
                return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
            name = str(args[0])
            attributes = {**_SYSTEM, "db.operation.name": name}
            with tracing.span(name, kind=SpanKind.CLIENT, attributes=attributes):
                return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    return TracedRedis
