"""Traces: that of an event, whole, as a receiver of OTLP sees it; and none while they are off."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from client_parts import until_ready
from events_log import NOW
from kafka_tools import read_topic
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from parts import Part, eventually

from headrace.dead_letters import Record
from headrace.local.ports import claim_port
from headrace.settings import ServingSettings, Settings
from headrace.topics import ensure_topics
from headrace.tracing.spans import Tracing
from streams.traced import traced

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Receiver:
    """A receiver of OTLP over HTTP, and the spans that came."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        """Each with the name of the service that it is from."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                receiver.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for each in request.resource_spans:
            told = {item.key: item.value.string_value for item in each.resource.attributes}
            for scope in each.scope_spans:
                self.spans += [(told["service.name"], span) for span in scope.spans]

    def names(self, trace: str) -> list[str]:
        """The spans of a trace, each as the names on the way from the first one to it."""
        spans = {
            span.span_id: (service, span)
            for service, span in list(self.spans)
            if span.trace_id.hex() == trace
        }

        def way(span_id: bytes) -> str:
            if span_id not in spans:
                return "" if span_id.hex() == PARENT else "?"
            service, span = spans[span_id]
            return f"{way(span.parent_span_id)} > {service.removeprefix('headrace-')} {span.name}"

        return sorted(way(span_id).removeprefix(" > ") for span_id in spans)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


async def test_one_trace_leads_from_the_request_through_kafka_to_redis(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    settings = msgspec.structs.replace(settings, tracing=True, serving=ServingSettings(port=port))
    ensure_topics(settings)
    url = f"http://127.0.0.1:{port}"
    event = {"type": "click", "event_id": "1", "user_id": "ann", "item_id": "tea", "timestamp": NOW}
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        for command in ("serve", "worker"):
            stack.enter_context(Part(command, settings, tmp_path))
        await until_ready(url)
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            sent = (await client.post("/v1/events", json=event)).json()["events"][0]
            asked = {"user_id": "ann", "after": sent["token"], "timeout_ms": 10_000}
            assert (await client.post("/v1/recommendations", json=asked)).status_code == 200

        topic = f"{settings.topics.prefix}clicks"
        worker = f"server POST /v1/events > server send {topic} > worker process events"
        wanted = {
            "server POST /v1/events",
            f"server POST /v1/events > server send {topic}",
            worker,
            f"{worker} > worker PIPELINE",
            "server POST /v1/recommendations",
            "server POST /v1/recommendations > server read session",
            "server POST /v1/recommendations > server read session > server PIPELINE",
            "server POST /v1/recommendations > server rank",
        }

        async def whole() -> bool:
            return wanted <= set(receiver.names(TRACE))

        await eventually(whole, f"{sorted(wanted)} are in {receiver.names(TRACE)}")
        [record] = read_topic(settings, "clicks")
        [(name, value)] = record.headers
        assert (name, value[:36]) == ("traceparent", f"00-{TRACE}-".encode())
        # No address, key, id or value of a user's is told.
        assert "ann" not in str([span for _, span in receiver.spans])


def record(offset: int, traceparent: str = "") -> Record:
    headers = [("traceparent", traceparent.encode())] if traceparent else []
    return Record("clicks", 0, offset, NOW, b"ann", b"{}", headers)


async def test_a_batch_of_several_traces_links_to_each_and_is_linked_from_each() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing("test", lambda: exporter)
    done: list[int] = []

    async def agent(records: Any) -> None:
        done.extend(each.offset for each in records)

    traces = [f"{n:032x}" for n in (1, 2, 3)]
    sampled = [f"00-{trace}-{PARENT}-01" for trace in traces[:2]]
    await traced(agent, "events", "group", tracing)(
        [
            record(0, sampled[0]),
            record(1, sampled[1]),
            record(2, sampled[1]),
            record(3, f"00-{traces[2]}-{PARENT}-00"),
            record(4, "no context"),
            record(5),
        ]
    )
    await tracing.close()
    assert done == [0, 1, 2, 3, 4, 5]
    spans = {f"{span.context.trace_id:032x}": span for span in exporter.get_finished_spans()}
    assert spans.keys() > {traces[0], traces[1]}
    assert len(spans) == 3
    [batch] = [span for trace, span in spans.items() if trace not in traces]
    assert batch.attributes["messaging.batch.message_count"] == 6
    assert {f"{link.context.trace_id:032x}" for link in batch.links} == set(traces[:2])
    for trace in traces[:2]:
        assert [link.context.span_id for link in spans[trace].links] == [batch.context.span_id]
        assert f"{spans[trace].parent.span_id:016x}" == PARENT
        assert spans[trace].start_time <= batch.start_time


@pytest.mark.parametrize(
    "start",
    [
        "from serving.app import create_app; create_app(Settings())",
        "import streams.app; start_tracing(Settings(), 'worker')",
    ],
)
def test_nothing_of_it_is_imported_while_it_is_off(start: str) -> None:
    code = (
        "import sys\n"
        "from headrace.settings import Settings\n"
        "from headrace.tracing import start_tracing\n"
        f"{start}\n"
        # redis-py itself imports what there is for metrics.
        "assert 'opentelemetry.sdk.trace' not in sys.modules\n"
        "assert 'headrace.tracing.spans' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_package_that_is_missing_is_named_with_its_cure(command: str, settings: Settings) -> None:
    ensure_topics(settings)
    code = (
        "import sys\n"
        "sys.modules['opentelemetry.exporter'] = None\n"
        f"sys.argv = ['headrace', '{command}']\n"
        "from headrace.cli import main\n"
        "main()\n"
    )
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    environ = msgspec.structs.replace(
        settings, tracing=True, serving=ServingSettings(port=port)
    ).environ()
    run = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    assert "HEADRACE_TRACING is on, and needs the package opentelemetry.exporter" in run.stderr
    assert "pip install 'headrace[tracing]'" in run.stderr
    assert "Traceback" not in run.stderr


async def test_a_receiver_that_is_away_holds_nothing_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.app import create_app

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    ensure_topics(settings)
    app = create_app(msgspec.structs.replace(settings, tracing=True))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/v1/trending")).status_code == 200
