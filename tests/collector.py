"""A collector of spans for tests: OTLP over real HTTP, decoded by the protocol's own package."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    from types import TracebackType


class Received(NamedTuple):
    """A span, as the collector has it."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: list[str]
    """Ids of the traces that it is linked to."""
    failed: bool


SERVER, CLIENT, PRODUCER = 2, 3, 4


class Collector:
    """Takes spans; one that hangs takes connections and never answers."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.spans: list[Received] = []
        self._released = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if hangs:
                    collector._released.wait(30)
                    return
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                collector.spans += decoded(body)
                reply = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def __enter__(self) -> Self:
        """Start."""
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *_: object, **__: TracebackType) -> None:
        """Stop."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def named(self, service: str, name: str) -> list[Received]:
        """Return the spans of a service with a name."""
        return [span for span in self.spans if (span.service, span.name) == (service, name)]


def decoded(body: bytes) -> list[Received]:
    """Return the spans of an export."""
    spans = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"]
        spans += [
            Received(
                service,
                span.name,
                span.kind,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                {each.key: each.value.string_value or each.value.int_value for each in span.attributes},
                [link.trace_id.hex() for link in span.links],
                span.status.code == 2,
            )
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    return spans
